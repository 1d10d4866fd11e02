"""The one middleware around a service's applications, the public and the internal one."""

import random
import re
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from services.kit import tracing
from services.kit.auth import Principal, TokenVerifier
from services.kit.errors import (
    BadRequest,
    InternalError,
    ProblemError,
    Unauthorized,
)
from services.kit.http.access_audit import AccessAudit
from services.kit.http.answer import Answer
from services.kit.http.cors import Cors
from services.kit.http.head import read_head
from services.kit.log import access
from services.kit.log import request_id as current_request_id
from services.kit.log import traceparent as current_traceparent
from services.kit.metrics import RequestMetrics
from services.kit.origin import Origin
from services.kit.origin import origin as current_origin
from services.kit.quotas import Quota

if TYPE_CHECKING:
    from services.kit.otlp import Span

log = structlog.get_logger("access")

Asgi = Callable[[Any, Any, Any], Awaitable[None]]  # typed as loosely as ASGI servers and clients type it

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_METHODS = {"GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH"}
_QUIET = ("/api/health", "/metrics")


class RequestMiddleware:
    """Give each request its id, trace context, caller, metrics and access line.

    One middleware because the framework's own four, stacked, take two thirds of a small request's time. It wraps the
    whole application, so that requests that routing refuses are counted, logged and identified like all others.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: str,
        metrics: RequestMetrics,
        verifier: TokenVerifier | None = None,
        audit: AccessAudit | None = None,
        quota: Quota | None = None,
        trusted_hops: int = 0,
        cors: Cors | None = None,
        *,
        address_limits: bool = False,
    ) -> None:
        self._app, self._metrics, self._verifier, self._audit = app, metrics, verifier, audit
        self._quota = quota if quota and quota.limit else None
        self._trusted_hops, self._address_limits = trusted_hops, address_limits
        self._service, self._cors = service, cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        head = read_head(scope)
        state: dict[str, Any] = scope.setdefault("state", {})
        is_known = _REQUEST_ID.fullmatch(head.request_id)
        state["request_id"] = request_id = head.request_id.decode() if is_known else _random_hex(128)
        current_request_id.set(request_id)
        span = _begin_span(scope, head.traceparent)
        origin = Origin(scope["client"][0] if scope["client"] else "", head.forwarded_for, self._trusted_hops)
        current_origin.set(origin)
        method = scope["method"]
        if method == "HEAD":  # as GET, but `Answer` drops the body
            scope = cast(HTTPScope, {**scope, "method": "GET"})
        answer = Answer(scope, state, send, self._audit, started, is_head=method == "HEAD")
        try:
            if self._cors is not None:
                answer.extra = self._cors.headers(head.origin)
                if method == "OPTIONS" and (preflight := self._cors.preflight(head.origin, list(scope["headers"]))):
                    await answer.send({"type": "http.response.start", "status": 204, "headers": preflight})
                    await answer.send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
            if b"%00" in scope["query_string"]:
                raise BadRequest("The query contains a NUL character")
            if head.refusal is not None:
                raise head.refusal
            await self._admit(scope, state, answer, head.authorization, origin)
            await self._app(scope, receive, answer.send)
        except ProblemError as error:
            await answer.send_problem(error)
        except Exception as error:
            log.exception("unhandled exception")
            state["failure"] = error
            if answer.has_begun:
                raise  # the server then cuts the connection, so that the client does not take half an answer for all
            await answer.send_problem(InternalError())
        finally:
            self._observe(scope, method, state, answer, perf_counter() - started)
            if span is not None:
                _end_span(span, method, scope, answer)

    async def _admit(
        self, scope: HTTPScope, state: dict[str, Any], answer: Answer, authorization: bytes, origin: Origin
    ) -> None:
        """Find the caller and take one request from a quota: the caller's, or the address's where that counts."""
        quota, rate_limit = self._quota, None
        if authorization and self._verifier is not None:
            state["caller"] = caller = await self._caller(authorization, self._verifier)
            if quota is not None and isinstance(caller, Principal):
                rate_limit = quota.take(caller.id)
        if quota is None:
            return
        # Probes come often, and from one address.
        if rate_limit is None and self._address_limits and not scope["path"].startswith(_QUIET):
            rate_limit = quota.take(origin.address)
        if rate_limit is not None:
            answer.extra += [(b"ratelimit-policy", quota.policy.encode()), (b"ratelimit", rate_limit.encode())]

    @staticmethod
    async def _caller(authorization: bytes, verifier: TokenVerifier) -> Principal | ProblemError:
        """Return the caller, or the error for routes that require one: a public route ignores a bad token."""
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return Unauthorized("Expected `Authorization: Bearer <access token>`")
        try:
            return await verifier.verify(token.strip())
        except ProblemError as error:
            return error

    def _observe(self, scope: HTTPScope, method: str, state: dict[str, Any], answer: Answer, seconds: float) -> None:
        route = scope.get("path_template") or "unmatched"
        if method not in _METHODS:
            method = "OTHER"  # a label's values are bounded
        # The client decides how long a stream lasts: its duration is the time until it opened.
        opened = answer.streaming_after
        self._metrics.observe(method, route, answer.status, seconds if opened is None else opened)
        if not route.startswith(_QUIET):
            caller = state.get("caller")
            access(
                self._service,
                method,
                route,
                answer.status,
                seconds,
                caller.id if isinstance(caller, Principal) else None,
            )


def _begin_span(scope: HTTPScope, parent: bytes) -> "Span | None":
    """Make the request's span the current one, and return it if it is recorded. Probes come often, and say nothing."""
    if not tracing.is_on() or scope["path"].startswith(_QUIET):
        current_traceparent.set(_child_span(parent))
        return None
    method = scope["method"] if scope["method"] in _METHODS else ""
    attributes = {"http.request.method": method or "_OTHER", "url.scheme": scope["scheme"]}
    known = parent.decode() if _TRACEPARENT.fullmatch(parent) else None
    return tracing.begin("SERVER", method or "HTTP", known, attributes)


def _end_span(span: "Span", method: str, scope: HTTPScope, answer: Answer) -> None:
    known: dict[str, str | int] = {"http.response.status_code": answer.status}
    if route := scope.get("path_template"):
        span.rename(f"{method if method in _METHODS else 'HTTP'} {route}")
        known["http.route"] = route
    span.add(known)
    if answer.status >= 500:
        span.fail(scope["state"].get("failure") or str(answer.status))
    span.end()


def _child_span(parent: bytes) -> str:
    """Return the `traceparent` of a span in the caller's trace, or in a new one."""
    if _TRACEPARENT.fullmatch(parent):
        return f"{parent[:36].decode()}{_random_hex(64)}-{parent[-2:].decode()}"
    return f"00-{_random_hex(128)}-{_random_hex(64)}-01"


def _random_hex(bits: int) -> str:
    """Return an identifier that need not be secret: the operating system's randomness takes ten times as long."""
    return f"{random.getrandbits(bits):0{bits // 4}x}"
