"""Services for the tests of the kit's HTTP package, and the tokens that they accept."""

from collections.abc import Sequence
from typing import Any

import httpx
from litestar.types import ControllerRouterHandler

from services.contracts.enums import Role
from services.kit.http.service import Service
from services.kit.settings import ServiceSettings
from services.kit.trail.entry import Trail
from tests.support.issuer import Issuer

issuer = Issuer()


async def _jwks() -> bytes:
    return issuer.jwks


def service_of(
    name: str,
    handlers: Sequence[ControllerRouterHandler],
    *,
    internal: Sequence[ControllerRouterHandler] = (),
    trail: Trail | None = None,
    **settings: Any,
) -> Service:
    service = Service(
        name, ServiceSettings(redis_url="redis://127.0.0.1", **settings), description=f"{name.title()} for tests."
    )
    service.verify_tokens(_jwks)
    if trail is not None:
        service.audit(trail, f"/api/{name}/audit", operation_id="readAudit", reader=Role.ADMIN)
    service.mount(handlers, internal=internal)
    return service


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def doctor() -> dict[str, str]:
    return bearer(issuer.token(role=Role.DOCTOR))


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Require a complete problem document, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "code", "requestId"} <= problem.keys()
    assert problem["type"] == f"/api/docs/errors#{code}"
    assert len(problem["detail"]) > len(problem["title"])
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["requestId"] == response.headers["x-request-id"]
    return problem
