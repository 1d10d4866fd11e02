"""Readiness (`/api/health`: can this process serve requests) and liveness (`/api/health/live`: does it answer)."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Annotated, Literal

import msgspec
import structlog
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import Method
from litestar.types.internal_types import PathParameterDefinition
from msgspec import Meta
from prometheus_client import CollectorRegistry, Gauge
from redis.exceptions import RedisError

from services.kit.errors import NotReady, ProblemError
from services.kit.http.guards import PUBLIC
from services.kit.http.responses import responses
from services.kit.streams.redis import redis_client

log = structlog.get_logger("health")

Status = Literal["ok", "degraded", "unavailable"]
Check = Callable[[], Awaitable[object]]
_CHECK_SECONDS = 1.0
_FRESH_SECONDS = 0.5


class CheckResult(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    status: Literal["ok", "unavailable"]
    latency_ms: float | None = None


class HealthReport(msgspec.Struct, frozen=True):
    status: Status
    service: Annotated[str, Meta(examples=["booking"])]
    version: Annotated[str, Meta(examples=["0.1.0"])]
    checks: Annotated[dict[str, CheckResult], Meta(examples=[{"postgres": {"status": "ok", "latencyMs": 0.6}}])]


class Live(msgspec.Struct, frozen=True):
    status: Literal["ok"]


class Health:
    """The checks of a service's dependencies: it cannot answer without the essential ones, the others degrade it.

    It is ready from the first time every essential check has passed until `drain()`. In between, an outage is reported
    in the body with 200: taking every replica out of the load balancer would replace our 503 by the balancer's own.
    """

    def __init__(self, service: str, version: str, registry: CollectorRegistry) -> None:
        self._service, self._version = service, version
        self._checks: dict[str, Check] = {}
        self._essential: set[str] = set()
        self._started = False
        self.draining = asyncio.Event()
        self._report: HealthReport | None = None
        self._reported_at = 0.0
        self._reporting = asyncio.Lock()
        self._up = Gauge("dependency_up", "Whether the last check passed", ["dependency"], registry=registry)

    def add(self, name: str, check: Check, *, essential: bool = False) -> None:
        self._checks[name] = check
        if essential:
            self._essential.add(name)

    def drain(self) -> None:
        self.draining.set()

    @property
    def ready(self) -> bool:
        return self._started and not self.draining.is_set()

    async def has_started(self) -> bool:
        """Return whether every essential check has passed once, and run these alone if they have not.

        No report is kept: the first caller of `report` would get one from before the service was ready.
        """
        if not self._started:
            essential = await asyncio.gather(*(self._run(name, self._checks[name]) for name in self._essential))
            if all(check.status == "ok" for check in essential):
                self._started = True
        return self._started

    async def report(self) -> HealthReport:
        """Run the checks, or return a report of the last half second."""
        async with self._reporting:
            if self._report is None or perf_counter() - self._reported_at > _FRESH_SECONDS:
                results = await asyncio.gather(*(self._run(name, check) for name, check in self._checks.items()))
                self._report = self._summary(dict(zip(self._checks, results, strict=True)))
                self._reported_at = perf_counter()
            return self._report

    def _summary(self, checks: dict[str, CheckResult]) -> HealthReport:
        down = {name for name, check in checks.items() if check.status != "ok"}
        status: Status = "unavailable" if down & self._essential else "degraded" if down else "ok"
        self._started = self._started or not down & self._essential
        return HealthReport(status, self._service, self._version, checks)

    async def _run(self, name: str, check: Check) -> CheckResult:
        started = perf_counter()
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await check()
        except Exception as error:
            if not isinstance(error, ProblemError | OSError | NotReady):  # TimeoutError is an OSError
                log.exception("health check failed", dependency=name)
            self._up.labels(name).set(0)
            return CheckResult("unavailable")
        self._up.labels(name).set(1)
        return CheckResult("ok", round((perf_counter() - started) * 1000, 2))

    def route_handlers(self) -> list[HTTPRouteHandler]:
        @get(
            ["/api/health", f"/api/health/{self._service}"],
            summary="Readiness",
            operation_id=_operation_id,
            security=PUBLIC,
            tags=["Health"],
            responses={**responses(), 503: ResponseSpec(HealthReport, description="Starting, or shutting down.")},
        )
        async def readiness() -> Response[HealthReport]:
            """Report the service and its dependencies. 503 while it starts and while it shuts down."""
            report = await self.report()
            if not self.ready:
                report = msgspec.structs.replace(report, status="unavailable")
            return Response(report, status_code=200 if self.ready else 503)

        @get(
            "/api/health/live",
            summary="Liveness",
            operation_id="getLiveness",
            security=PUBLIC,
            tags=["Health"],
            responses=responses(),
            sync_to_thread=False,
        )
        def liveness() -> Live:
            """Answer, without a check of any dependency."""
            return Live("ok")

        return [readiness, liveness]


def _operation_id(_: HTTPRouteHandler, __: Method, path: list[str | PathParameterDefinition]) -> str:
    return "getHealth" if path[-1] == "health" else "getServiceHealth"


class RedisCheck:
    """Check that Redis answers, by a client that gives up soon and repeats nothing."""

    def __init__(self, url: str) -> None:
        self._redis = redis_client(url, connect_seconds=0.25, answer_seconds=0.25)

    async def __call__(self) -> None:
        try:
            await self._redis.ping()
        except RedisError as error:
            raise NotReady("Redis does not answer") from error

    async def close(self) -> None:
        await self._redis.aclose()
