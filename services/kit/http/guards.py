"""Who may call a handler: checks that run before it."""

import secrets
from typing import Any

from litestar import Request
from litestar.types import BeforeRequestHookHandler

from services.kit.auth import Principal
from services.kit.errors import Forbidden, ProblemError, Unauthorized
from services.kit.http.strict import refuse_null

PUBLIC: list[dict[str, list[str]]] = [{}]  # an operation's `security` in OpenAPI when it needs no token
AuthenticatedRequest = Request[Principal, Any, Any]


def authenticated(request: Request[Any, Any, Any], *roles: str) -> Principal:
    """The caller: signed in and of one of `roles`, or of any role when none is named."""
    caller = request.scope["state"].get("caller")
    if not isinstance(caller, Principal):
        raise caller if isinstance(caller, ProblemError) else Unauthorized()
    if roles and caller.role not in roles:
        raise Forbidden
    return caller


def requires(*roles: str) -> BeforeRequestHookHandler:
    """The `before_request` of a handler, which finds who is `authenticated` in its `AuthenticatedRequest`.

    Not a guard, for which Litestar copies the handler at each request, and not a dependency: two of them in one handler
    make it start a task group. Either takes a fifth of a small read's time.
    """

    async def check(request: Request[Any, Any, Any]) -> None:
        request.scope["user"] = authenticated(request, *roles)
        await refuse_null(request)  # the application's own, whose place this one takes

    return check


def requires_internal_token(*tokens: str) -> BeforeRequestHookHandler:
    """Give the `before_request` of a handler under `/internal/` that the services with these tokens may call.

    Each pair of services has a token of its own, so that what is stolen from one caller opens no other caller's routes.
    """
    expected = [f"Bearer {token}".encode() for token in tokens]

    async def check(request: Request[Any, Any, Any]) -> None:
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if not any(secrets.compare_digest(given, one) for one in expected):
            raise Unauthorized

    return check
