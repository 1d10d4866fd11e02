"""What the middleware adds to an answer before it leaves."""

from collections.abc import Iterable
from time import perf_counter
from typing import Any

from litestar.types import HTTPScope, Message, Send

from services.kit.auth import Principal
from services.kit.errors import PROBLEM_JSON, ProblemError, problem_body
from services.kit.http.access_audit import AccessAudit

_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_NO_STORE = (b"cache-control", b"no-store")
# A page may load and do nothing but what its handler allows by `content_policy` in the request's state.
_CONTENT_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_OF_PAGES = [
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class Answer:
    """The answer to one request: adds the common headers, and has it audited before it starts.

    `status` is 500 until the answer has begun. `streaming_after` is the seconds until an event stream began.
    """

    __slots__ = (
        "_audit", "_is_head", "_is_withheld", "_scope", "_send", "_started", "_state", "extra", "has_begun", "status",
        "streaming_after",
    )  # fmt: skip

    def __init__(
        self,
        scope: HTTPScope,
        state: dict[str, Any],
        send: Send,
        audit: AccessAudit | None,
        started: float,
        *,
        is_head: bool = False,
    ) -> None:
        self._is_head = is_head
        self._scope, self._state, self._send, self._audit, self._started = scope, state, send, audit, started
        self._is_withheld = self.has_begun = False
        self.status = 500
        self.streaming_after: float | None = None
        self.extra: list[tuple[bytes, bytes]] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self._audit is not None and not await self._is_audited(self._audit, message["status"]):
                return
            self.has_begun = True
            self.status = message["status"]
            message["headers"] = self._with_common_headers(message["headers"])
            if self._is_head:  # ended here: the body of a stream would never end
                self._is_withheld = True
                await self._send(message)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
        elif self._is_withheld:
            return
        await self._send(message)

    async def send_problem(self, error: ProblemError) -> None:
        body = problem_body(error, self._state["request_id"])
        headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(body)).encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def _is_audited(self, audit: AccessAudit, status: int) -> bool:
        """No audit entry, no answer: the client gets the error instead, and what the application sends is dropped.

        Not raised, because Litestar believes that the response has started and would skip its exception handlers.
        """
        caller = self._state.get("caller")
        if not isinstance(caller, Principal):
            return True
        self._audit = None
        try:
            await audit(self._scope, caller, status)
        except ProblemError as error:
            await self.send_problem(error)
            self._is_withheld = True
            return False
        return True

    def _with_common_headers(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = [*given, (b"x-request-id", self._state["request_id"].encode()), _NO_SNIFFING, *self.extra]
        has_cache_control = False
        for name, value in given:
            if name == b"cache-control":
                has_cache_control = True
            elif name == b"content-type" and value.startswith(b"text/event-stream"):
                self.streaming_after = perf_counter() - self._started
            elif name == b"content-type" and value.startswith(b"text/html"):
                policy: str = self._state.get("content_policy", _CONTENT_POLICY)
                headers += [*_OF_PAGES, (b"content-security-policy", policy.encode())]
        if not has_cache_control:
            headers.append(_NO_STORE)
        return headers
