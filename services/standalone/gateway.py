"""The ingress of one machine, in the same process and with the same Prefix and Exact paths."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import structlog

from services.kit.http.service import Service

log = structlog.get_logger("gateway")

EXACT = {"/api/docs": "auth", "/api/health": "auth"}
PREFIXES = {
    "/": "auth",  # a problem document for every path that no service has
    "/api/doctors": "auth",
    "/api/patients": "auth",
    "/api/auth": "auth",
    "/api/docs/auth": "auth",
    "/api/health/auth": "auth",
    "/api/appointments": "booking",
    "/api/availability": "booking",
    "/api/slots": "booking",
    "/api/holds": "booking",
    "/api/docs/booking": "booking",
    "/api/health/booking": "booking",
    "/api/notifications": "notification",
    "/api/docs/notification": "notification",
    "/api/health/notification": "notification",
}


def route(path: str) -> str:
    """Return the service that answers `path`."""
    if path in EXACT:
        return EXACT[path]
    while path and path not in PREFIXES:
        path = path.rpartition("/")[0]
    return PREFIXES[path or "/"]


class Gateway:
    """Route requests to the services by path, and run their lifespans within its own."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = services

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._services[route(scope["path"])].app(scope, receive, send)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            async with AsyncExitStack() as running:
                for service in self._services.values():
                    await running.enter_async_context(service.lifespan())
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception:
            message = "a service failed to start or to stop"
            log.exception(message)
            await send({"type": "lifespan.startup.failed", "message": message})
        else:
            await send({"type": "lifespan.shutdown.complete"})
