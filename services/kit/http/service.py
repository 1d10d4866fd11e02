"""The composition root of a service: what all services have in common, and where each adds what is its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol, TypeVar

from litestar import Litestar, Request, Response, get
from litestar.di import Provide
from litestar.types import ControllerRouterHandler
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from services.kit.auth import TokenKeyStore, TokenVerifier
from services.kit.http.access_audit import AccessAudit, audit_handler
from services.kit.http.cors import Cors
from services.kit.http.docs import assets, openapi_config
from services.kit.http.health import Health, RedisCheck
from services.kit.http.middleware import Asgi, RequestMiddleware
from services.kit.http.problems import EXCEPTION_HANDLERS, methods_at
from services.kit.http.responses import JsonResponse
from services.kit.http.strict import StrictBody, refuse_null
from services.kit.internal import InternalClient
from services.kit.metrics import RequestMetrics, create_registry
from services.kit.quotas import Quota, SharedQuotas
from services.kit.settings import ServiceSettings
from services.kit.tasks import Run, Supervisor, pause
from services.kit.trail.entry import Trail

VERSION = "0.1.0"
MAX_BODY_BYTES = 64 * 1024
_START_SECONDS = 0.5


class Closable(Protocol):
    async def close(self) -> None: ...


class Openable(Closable, Protocol):
    async def open(self) -> None: ...


C = TypeVar("C", bound=Closable)
O = TypeVar("O", bound=Openable)  # noqa: E741


class Service:
    """A service under construction, ready to be served once `mount` was called.

    `app` answers on the public port, `internal` on the one for the platform's other services and for Prometheus.
    Nothing connects before `lifespan`.
    """

    app: Asgi
    internal: Asgi
    litestar: Litestar

    def __init__(self, name: str, settings: ServiceSettings, *, description: str) -> None:
        self.name, self.settings, self._description = name, settings, description
        self.registry = create_registry()
        self.health = Health(name, VERSION, self.registry)
        self.tasks = Supervisor(self.registry)
        self.cors = Cors(settings.cors_origins)
        self._lives: list[tuple[Callable[[], Awaitable[None]] | None, Callable[[], Awaitable[None]]]] = []
        self._quotas: list[Quota] = []
        self._requests = self.quota("requests", settings.user_requests_per_minute, 60)
        self._verifier: TokenVerifier | None = None
        self._audit: AccessAudit | None = None
        self._routes: list[ControllerRouterHandler] = [*self.health.route_handlers(), assets(name)]
        self.health.add("redis", self.closing(RedisCheck(settings.redis_url)))
        self.health.add("tasks", self.tasks.check)

    def opening(self, resource: O) -> O:
        """Open `resource` before the tasks start, and close it after they have stopped."""
        self._lives.append((resource.open, resource.close))
        return resource

    def closing(self, resource: C) -> C:
        """Close `resource` after the tasks have stopped, before those that were registered earlier."""
        self.on_close(resource.close)
        return resource

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        self._lives.append((None, close))

    def neighbour(self, url: str, token: str) -> InternalClient:
        """Make the client for the internal port of another service of the platform."""
        return self.closing(InternalClient(url, token, self.settings.internal_authority_file))

    def quota(self, name: str, limit: int, seconds: int) -> Quota:
        """Make a quota that the replicas share."""
        self._quotas.append(quota := Quota(name, limit, seconds))
        return quota

    def verify_tokens(self, fetch: Callable[[], Awaitable[bytes]], store: TokenKeyStore | None = None) -> TokenVerifier:
        issuer, audience = self.settings.jwt_issuer, self.settings.jwt_audience
        self._verifier = TokenVerifier(issuer=issuer, audience=audience, fetch=fetch, store=store)
        self.tasks.add("token-keys", self._verifier.refreshing())
        return self._verifier

    def when_ready(self, name: str, run: Run) -> None:
        """Add a task that begins once the service has been ready: before that, its tables may not exist yet.

        A consumer that begins earlier would make dead letters of events that only the new schema can store.
        """

        async def wait_and_run(stop: asyncio.Event) -> None:
            while not stop.is_set() and not await self.health.has_started():
                await pause(stop, _START_SECONDS)
            if not stop.is_set():
                await run(stop)

        self.tasks.add(name, wait_and_run)

    def audit(self, trail: Trail, path: str, *, operation_id: str, reader: str) -> None:
        """Record refusals and what `reader` reads, and let `reader` read the trail at `path`."""
        self._audit = AccessAudit(trail.add, reader=reader)
        self._routes.append(audit_handler(path, trail, operation_id=operation_id, reader=reader))

    def mount(
        self,
        route_handlers: Sequence[ControllerRouterHandler],
        *,
        internal: Sequence[ControllerRouterHandler] = (),
        dependencies: Mapping[str, object] | None = None,
    ) -> None:
        """Make the applications. `dependencies` has, by name, the objects that handlers ask for."""
        self.tasks.add("quotas", SharedQuotas(self.name, self.settings.redis_url, self.registry, *self._quotas).run)
        common: dict[str, Any] = {
            "exception_handlers": EXCEPTION_HANDLERS,
            "request_max_body_size": MAX_BODY_BYTES,
            "logging_config": None,
        }
        self.litestar = Litestar(
            route_handlers=[*route_handlers, *self._routes],
            dependencies={name: constant(value) for name, value in (dependencies or {}).items()},
            dto=StrictBody,
            return_dto=None,
            response_class=JsonResponse,
            before_request=_before_request,
            openapi_config=openapi_config(self.name, VERSION, self._description),
            lifespan=[lambda _: self._run()],
            **common,
        )
        internal_app = Litestar([_metrics_handler(self.registry), *internal], openapi_config=None, **common)
        metrics = RequestMetrics(self.registry)
        self.app = RequestMiddleware(
            self.litestar,
            self.name,
            metrics,
            self._verifier,
            self._audit,
            self._requests,
            self.settings.trusted_proxy_hops,
            self.cors,
            address_limits=self.settings.address_limits,
        )
        self.internal = RequestMiddleware(internal_app, self.name, metrics)

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for open_it, close in self._lives:
                stack.push_async_callback(close)
                if open_it is not None:
                    await open_it()
            stack.push_async_callback(self.tasks.stop)
            self.tasks.start()
            yield

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Run the service for as long as the block, for a caller that serves `app` without a lifespan protocol."""
        async with self.litestar.lifespan():
            yield


def constant(value: object) -> Provide:
    """Make a dependency that is the same object for every request."""

    def provide() -> Any:
        return value

    return Provide(provide, sync_to_thread=False)


async def _before_request(request: Request[Any, Any, Any]) -> Response[None] | None:
    if request.method == "OPTIONS":  # Litestar's own names only the methods of the path's first handler
        return Response(None, status_code=204, headers={"Allow": ", ".join(methods_at(request))})
    await refuse_null(request)
    return None


def _metrics_handler(registry: CollectorRegistry) -> Any:
    @get("/metrics", sync_to_thread=False)
    def metrics() -> Response[bytes]:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return metrics
