"""Checks of the caller that run before a handler."""

import secrets
from typing import Any

from litestar import Request
from litestar.types import BeforeRequestHookHandler

from services.kit.auth import Principal
from services.kit.errors import Forbidden, ProblemError, Unauthorized
from services.kit.http.strict import refuse_null

PUBLIC: list[dict[str, list[str]]] = [{}]  # an operation's `security` in OpenAPI when it needs no token
AuthenticatedRequest = Request[Principal, Any, Any]


def caller_of(request: Request[Any, Any, Any]) -> Principal | None:
    """Return the caller of a public route, or None when there is no valid token."""
    caller = request.scope["state"].get("caller")
    return caller if isinstance(caller, Principal) else None


def authenticated(request: Request[Any, Any, Any], *roles: str) -> Principal:
    """Return the caller, who must be signed in and have one of `roles`, or any role when none is named."""
    caller = request.scope["state"].get("caller")
    if not isinstance(caller, Principal):
        raise caller if isinstance(caller, ProblemError) else Unauthorized()
    if roles and caller.role not in roles:
        raise Forbidden
    return caller


def requires(*roles: str) -> BeforeRequestHookHandler:
    """Return the `before_request` of a handler, which then finds the caller as its `AuthenticatedRequest.user`.

    Not a guard, for which Litestar copies the handler at each request, and not a dependency: two of them in one handler
    make it start a task group. Either takes a fifth of a small read's time.
    """

    async def check(request: Request[Any, Any, Any]) -> None:
        request.scope["user"] = authenticated(request, *roles)
        await refuse_null(request)  # the application's own `before_request`, which this one replaces

    return check


def requires_internal_token(*tokens: str) -> BeforeRequestHookHandler:
    """Return the `before_request` of a handler under `/internal/` that the services with these tokens may call.

    Each pair of services has a token of its own, so that what is stolen from one caller opens no other caller's routes.
    """
    expected = [f"Bearer {token}".encode() for token in tokens]

    async def check(request: Request[Any, Any, Any]) -> None:
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if not any(secrets.compare_digest(given, one) for one in expected):
            raise Unauthorized

    return check
