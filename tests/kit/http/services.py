"""Services for the tests of the kit's HTTP package, and the tokens that they accept."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from litestar.types import ControllerRouterHandler
from prometheus_client import CollectorRegistry

from services.contracts.enums import Role
from services.kit.auth import TokenVerifier
from services.kit.health import Health
from services.kit.http.access_audit import AccessAudit
from services.kit.http.service import Service
from services.kit.settings import ServiceSettings
from tests.support.issuer import AUDIENCE, ISSUER, Issuer

issuer = Issuer()


async def _fine() -> None: ...


async def _jwks() -> bytes:
    return issuer.jwks


@asynccontextmanager
async def _no_resources() -> AsyncIterator[None]:
    yield


def service_of(
    name: str,
    handlers: Sequence[ControllerRouterHandler],
    *,
    internal: Sequence[ControllerRouterHandler] = (),
    audit: AccessAudit | None = None,
    **settings: Any,
) -> Service:
    registry = CollectorRegistry()
    return Service(
        name,
        title=name.title(),
        version="1.2.3",
        description=f"{name.title()} for tests.",
        settings=ServiceSettings(redis_url="redis://127.0.0.1", **settings),
        registry=registry,
        verifier=TokenVerifier(issuer=ISSUER, audience=AUDIENCE, fetch=_jwks),
        health=Health(name, "1.2.3", registry, essential={"store": _fine}),
        route_handlers=handlers,
        internal_handlers=internal,
        audit=audit,
        lifespan=_no_resources,
    )


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def doctor() -> dict[str, str]:
    return bearer(issuer.token(role=Role.DOCTOR))


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Require a complete problem document, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert {"type", "title", "status", "code", "requestId"} <= problem.keys()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["requestId"] == response.headers["x-request-id"]
    return problem
