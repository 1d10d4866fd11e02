"""What every service is made of: a public Litestar app, an internal one, and one lean middleware around both."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from litestar import Litestar, Response, get
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.types import ControllerRouterHandler
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from services.kit.auth import TokenVerifier
from services.kit.health import Health
from services.kit.http.access_audit import AccessAudit
from services.kit.http.docs import assets, openapi_config
from services.kit.http.middleware import Asgi, RequestMiddleware
from services.kit.http.problems import EXCEPTION_HANDLERS
from services.kit.http.responses import JsonResponse
from services.kit.http.strict import StrictBody, refuse_null
from services.kit.metrics import RequestMetrics
from services.kit.quotas import Quota
from services.kit.settings import ServiceSettings

VERSION = "0.1.0"
MAX_BODY_BYTES = 64 * 1024


class Service:
    """One service, ready to be served: `app` on the public port and `internal` on the one for its neighbours."""

    def __init__(
        self,
        name: str,
        *,
        title: str,
        version: str,
        description: str,
        settings: ServiceSettings,
        registry: CollectorRegistry,
        verifier: TokenVerifier,
        health: Health,
        route_handlers: Sequence[ControllerRouterHandler],
        internal_handlers: Sequence[ControllerRouterHandler] = (),
        dependencies: Mapping[str, Provide] | None = None,
        audit: AccessAudit | None = None,
        lifespan: Callable[[], AbstractAsyncContextManager[None]],
        quota: Quota | None = None,
    ) -> None:
        self.name, self.settings, self.health = name, settings, health
        origins = [origin for origin in settings.cors_origins.split(",") if origin]
        self.litestar = Litestar(
            route_handlers=[*route_handlers, *health.route_handlers(), assets(name)],
            dependencies=dependencies,
            dto=StrictBody,
            return_dto=None,
            response_class=JsonResponse,
            before_request=refuse_null,
            exception_handlers=EXCEPTION_HANDLERS,
            openapi_config=openapi_config(name, title, version, description),
            request_max_body_size=MAX_BODY_BYTES,
            cors_config=_cors(origins) if origins else None,
            lifespan=[lambda _: lifespan()],
            logging_config=None,
        )
        internal = Litestar(
            route_handlers=[_metrics_handler(registry), *internal_handlers],
            exception_handlers=EXCEPTION_HANDLERS,
            openapi_config=None,
            request_max_body_size=MAX_BODY_BYTES,
            logging_config=None,
        )
        metrics = RequestMetrics(registry)
        self.app: Asgi = RequestMiddleware(
            self.litestar,
            name,
            metrics,
            verifier,
            audit,
            quota,
            settings.trusted_proxy_hops,
            address_limits=settings.address_limits,
        )
        self.internal: Asgi = RequestMiddleware(internal, name, metrics)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """For whoever serves `app` without a server that speaks the lifespan protocol."""
        async with self.litestar.lifespan():
            yield


def constant(value: object) -> Provide:
    """A dependency that is the same object for every request."""

    def provide() -> Any:
        return value

    return Provide(provide, sync_to_thread=False)


def _cors(origins: list[str]) -> CORSConfig:
    return CORSConfig(
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID", "X-Request-ID"],
        expose_headers=[
            "ETag",
            "Location",
            "Retry-After",
            "X-Request-ID",
            "Idempotency-Replayed",
            "RateLimit",
            "RateLimit-Policy",
        ],
        max_age=600,
    )


def _metrics_handler(registry: CollectorRegistry) -> Any:
    @get("/metrics", sync_to_thread=False)
    def metrics() -> Response[bytes]:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return metrics
