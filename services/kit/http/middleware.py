"""What every service is made of: a public Litestar app, an internal one, and one lean middleware around both."""

import random
import re
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.kit.auth import Principal, TokenVerifier
from services.kit.errors import (
    PROBLEM_JSON,
    BadRequest,
    InternalError,
    ProblemError,
    Unauthorized,
    UnsupportedMediaType,
    problem_body,
)
from services.kit.http.access_audit import AccessAudit
from services.kit.http.origin import Origin
from services.kit.http.origin import origin as current_origin
from services.kit.log import access
from services.kit.log import request_id as current_request_id
from services.kit.log import traceparent as current_traceparent
from services.kit.metrics import RequestMetrics
from services.kit.quotas import Quota

log = structlog.get_logger("access")

Asgi = Callable[[Any, Any, Any], Awaitable[None]]  # as loose as servers and clients of ASGI type it

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_JSON_TYPES = (b"application/json", b"application/merge-patch+json")
_WITH_BODY = {"POST", "PUT", "PATCH"}
_METHODS = {"GET", "HEAD", "OPTIONS", "DELETE", *_WITH_BODY}
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_NO_STORE = (b"cache-control", b"no-store")
# A page may load and do nothing but what its handler allows by `content_policy` in the request's state.
_CONTENT_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_OF_PAGES = [
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_QUIET = ("/api/health", "/metrics")


class RequestMiddleware:
    """Request id, trace context, caller, metrics and the access line of each request.

    One middleware because the framework's own four, stacked, take two thirds of a small request's time. It wraps the
    whole application, so that what routing refuses is counted, logged and named like everything else.
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
        *,
        address_limits: bool = False,
    ) -> None:
        self._app, self._metrics, self._verifier, self._audit = app, metrics, verifier, audit
        self._quota = quota if quota and quota.limit else None
        self._trusted_hops, self._address_limits = trusted_hops, address_limits
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        authorization = content_type = traceparent = b""
        request_id = forwarded_for = ""
        has_body = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"content-type":
                content_type = value
            elif name == b"x-request-id":
                request_id = value.decode("latin-1") if _REQUEST_ID.fullmatch(value) else ""
            elif name == b"traceparent":
                traceparent = value
            elif name == b"x-forwarded-for":
                forwarded_for += "," + value.decode("latin-1")
            elif name == b"content-length":
                has_body = value != b"0"
            elif name == b"transfer-encoding":
                has_body = True
        request_id = request_id or _random_hex(128)
        parent = _child_span(traceparent)
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        current_request_id.set(request_id)
        current_traceparent.set(parent)
        came_from = Origin(scope["client"][0] if scope["client"] else "", forwarded_for, self._trusted_hops)
        current_origin.set(came_from)
        status = 500
        responding = withheld = False
        audit = self._audit
        streaming_after: float | None = None
        rate_limit: str | None = None

        async def answer(message: Message) -> None:
            nonlocal audit, responding, status, streaming_after, withheld
            if message["type"] == "http.response.start":
                caller = state.get("caller")
                if audit is not None and isinstance(caller, Principal):
                    write_down, audit = audit, None
                    try:
                        await write_down(scope, caller, message["status"])
                    except ProblemError as error:
                        # What must be written down before it is sent is not sent. Not raised: to the framework the
                        # answer has begun by now.
                        await _send_problem(answer, error, request_id)
                        withheld = True
                        return
                responding = True
                status = message["status"]
                headers = [*message["headers"], (b"x-request-id", request_id.encode()), _NO_SNIFFING]
                if self._quota is not None and rate_limit is not None:
                    headers.append((b"ratelimit-policy", self._quota.policy.encode()))
                    headers.append((b"ratelimit", rate_limit.encode()))
                says_caching = False
                for name, value in message["headers"]:
                    if name == b"cache-control":
                        says_caching = True
                    elif name == b"content-type" and value.startswith(b"text/event-stream"):
                        streaming_after = perf_counter() - started
                    elif name == b"content-type" and value.startswith(b"text/html"):
                        policy: str = state.get("content_policy", _CONTENT_POLICY)
                        headers += [*_OF_PAGES, (b"content-security-policy", policy.encode())]
                if not says_caching:
                    headers.append(_NO_STORE)
                message["headers"] = headers
            elif withheld:
                return
            await send(message)

        try:
            if b"%00" in scope["query_string"]:
                raise BadRequest("The address has a NUL character")
            if has_body and scope["method"] in _WITH_BODY and not content_type.startswith(_JSON_TYPES):
                raise UnsupportedMediaType
            if authorization and self._verifier is not None:
                state["caller"] = caller = await self._caller(authorization)
                if self._quota is not None and isinstance(caller, Principal):
                    rate_limit = self._quota.take(caller.id)
            # Probes come often, and from one address.
            if self._quota and rate_limit is None and self._address_limits and not scope["path"].startswith(_QUIET):
                rate_limit = self._quota.take(came_from.address)
            await self._app(scope, receive, answer)
        except ProblemError as error:
            await _send_problem(answer, error, request_id)
        except Exception:
            log.exception("unhandled exception")
            if responding:
                raise  # the server cuts the connection, so that a half answer is not taken for a whole one
            await _send_problem(answer, InternalError(), request_id)
        finally:
            seconds = perf_counter() - started
            route = scope.get("path_template") or "unmatched"
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"  # a label's values are bounded
            # A stream's length is its client's choice: among the durations counts how long it took to open.
            self._metrics.observe(method, route, status, seconds if streaming_after is None else streaming_after)
            if not route.startswith(_QUIET):
                known = state.get("caller")
                subject = known.id if isinstance(known, Principal) else None
                access(self._service, method, route, status, seconds, subject)

    async def _caller(self, authorization: bytes) -> Principal | ProblemError:
        """The caller, or what a route that wants one is to answer: a public route ignores a bad token."""
        scheme, _, token = authorization.decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not token or self._verifier is None:
            return Unauthorized("Expected `Authorization: Bearer <access token>`")
        try:
            return await self._verifier.verify(token.strip())
        except ProblemError as error:
            return error


def _child_span(parent: bytes) -> str:
    """The caller's trace continued, or a new one."""
    if _TRACEPARENT.fullmatch(parent):
        return f"{parent[:36].decode()}{_random_hex(64)}-{parent[-2:].decode()}"
    return f"00-{_random_hex(128)}-{_random_hex(64)}-01"


def _random_hex(bits: int) -> str:
    """A name and no secret: the operating system's randomness takes ten times as long."""
    return f"{random.getrandbits(bits):0{bits // 4}x}"


async def _send_problem(send: Send, error: ProblemError, request_id: str) -> None:
    body = problem_body(error, request_id)
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
