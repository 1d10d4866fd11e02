"""HTTP/1.1 with bounds: a request's head and body have a size and a time in which they must arrive."""

import asyncio
import random
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.kit.errors import PROBLEM_JSON, BadRequest, HeadersTooLarge, ProblemError, RequestTimeout, problem_body
from services.kit.http.cors import Cors

# httptools joins the parts of a header as they arrive: one header of 60 MB held the event loop for 4 s.
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
# The first also bounds how long a new connection may stay silent.
HEAD_SECONDS = 20.0
BODY_SECONDS = 30.0
_HEAD, _BODY, _COMPLETE = range(3)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which answers 431 and 408 and closes where a client exceeds the bounds.

    A request that arrives whole in one piece, as nearly all do, starts no timer.
    """

    def __init__(self, cors: Cors, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cors = cors
        self._part = _COMPLETE
        self._received = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timed_part = _COMPLETE
        self._receiving: Any = None  # the exchange whose request is still arriving

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer(_HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            self._stop_timer()
        elif self._part == _COMPLETE:
            self._received = 0
            self._stop_timer()
        elif self._part == _HEAD and self._received > MAX_HEAD_BYTES:
            self._refuse(HeadersTooLarge())
        else:
            self._start_timer(self._part)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part, self._receiving = _HEAD, None

    def on_headers_complete(self) -> None:
        self._part = _BODY
        if len(self.headers) > MAX_HEADERS or (self._received > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES):
            self._refuse(HeadersTooLarge())
        else:
            super().on_headers_complete()
            self._receiving = self.cycle

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._part = _COMPLETE
        if not self.transport.is_closing():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest("This is no HTTP/1.1 request"))

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _start_timer(self, part: int) -> None:
        """Time the part of the request that is arriving, from its first piece on."""
        if self._timer is not None and self._timed_part == part:
            return
        self._stop_timer()
        self._timed_part = part
        self._timer = self.loop.call_later(HEAD_SECONDS if part == _HEAD else BODY_SECONDS, self._time_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        if self._received:
            self._refuse(RequestTimeout())
        else:
            self.transport.close()

    def _refuse(self, error: ProblemError) -> None:
        """Answer and close; only close in the middle of another answer, which this one would be taken for a part of."""
        self._stop_timer()
        cycle: Any = self.cycle
        is_idle = cycle is None or cycle.response_complete
        is_unanswered = cycle is not None and cycle is self._receiving and not cycle.response_started
        if (is_idle or is_unanswered) and not self.pipeline and not self.transport.is_closing():
            request_id = f"{random.getrandbits(128):032x}"
            body = problem_body(error, request_id)
            head = (
                f"content-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\nx-request-id: {request_id}\r\n"
                "x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\n"
            )
            origin = next((value for name, value in self.headers or () if name == b"origin"), None)
            # While the head is incomplete, its origin may still be to come. These answers say nothing about anybody.
            given = (
                self._cors.any_origin if origin is None and self._part == _HEAD else self._cors.headers(origin or b"")
            )
            cors = b"".join(b"%s: %s\r\n" % header for header in given)
            self.transport.write(STATUS_LINE[error.status] + head.encode() + cors + b"\r\n" + body)
        self.transport.close()
