"""Calls to another service's internal port, with a time-out and a circuit breaker."""

import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from time import monotonic
from typing import Any, TypeVar

import httpx
import msgspec
import structlog

from services.kit import tracing
from services.kit.errors import Unavailable
from services.kit.log import request_id, traceparent

T = TypeVar("T")
log = structlog.get_logger("internal")

_FAILURES_TO_OPEN = 5
_OPEN_SECONDS = 5.0
_ANSWER_SECONDS = 1.0
_CONNECT_SECONDS = 0.5


class InternalClient:
    """Call one service. After five failures in a row calls fail at once for 5 s, then one call is let through.

    An https address must have a certificate of the authorities in `authority_file`, or else of a public one.
    """

    def __init__(self, base_url: str, token: str, authority_file: str | None = None) -> None:
        self._authority_file = authority_file
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=20, max_keepalive_connections=5),
            verify=_tls(authority_file),
            trust_env=False,
        )
        self._failures = 0
        self._closed_until = 0.0

    async def get(self, path: str, answer: type[T], **query: str) -> T | None:
        """Return the decoded response, or None for a 404; raise `Unavailable` for any other failure."""
        if self._failures >= _FAILURES_TO_OPEN:
            if monotonic() < self._closed_until:
                raise Unavailable
            self._closed_until = monotonic() + _OPEN_SECONDS
        try:
            response = await self._get(path, query)
            if response.status_code == 404:
                self._failures = 0
                return None
            response.raise_for_status()
            decoded = msgspec.json.decode(response.content, type=answer)
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            self._failures += 1
            _read_renewed_authority(error, self._authority_file)
            if self._failures == _FAILURES_TO_OPEN:
                self._closed_until = monotonic() + _OPEN_SECONDS
            log.warning("internal call failed", host=self._http.base_url.host, path=path, error=type(error).__name__)
            raise Unavailable from error
        self._failures = 0
        return decoded

    async def _get(self, path: str, query: Mapping[str, str]) -> httpx.Response:
        server = self._http.base_url
        port = server.port or (443 if server.scheme == "https" else 80)
        attributes: dict[str, str | int] = {
            "http.request.method": "GET",
            "server.address": server.host,
            "server.port": port,
        }
        with tracing.child_of(traceparent.get(), "CLIENT", "GET", attributes) as span:
            response = await self._http.get(path, params=query, headers=_context())
            if span is not None:
                span.add({"http.response.status_code": response.status_code})
                if response.is_error:
                    span.fail(str(response.status_code))
        return response

    async def close(self) -> None:
        await self._http.aclose()


class PublishedDocument:
    """A document that another service publishes to everyone, such as its keys: fetched without an internal token."""

    def __init__(self, url: str, authority_file: str | None = None) -> None:
        self._url, self._authority_file = url, authority_file
        self._http = httpx.AsyncClient(timeout=2.0, verify=_tls(authority_file), trust_env=False)

    async def fetch(self) -> bytes:
        try:
            response = await self._http.get(self._url)
        except httpx.HTTPError as error:
            _read_renewed_authority(error, self._authority_file)
            raise
        return response.raise_for_status().content

    async def close(self) -> None:
        await self._http.aclose()


@cache
def _tls(authority_file: str | None) -> ssl.SSLContext:
    """Make one context for all clients of the process: reading the public authorities takes 20 ms."""
    return ssl.create_default_context(cafile=authority_file) if authority_file else httpx.create_ssl_context()


def _read_renewed_authority(error: Exception, authority_file: str | None) -> None:
    """Trust what `authority_file` holds now when a connection failed: a server may already use a renewed authority."""
    if authority_file and isinstance(error, httpx.ConnectError):
        with suppress(OSError):
            _tls(authority_file).load_verify_locations(authority_file)


def _context() -> dict[str, Any]:
    headers = {"X-Request-ID": request_id.get(), "traceparent": traceparent.get()}
    return {name: value for name, value in headers.items() if value}
