"""The statements that a request sends to PostgreSQL, recorded on the service's own connections."""

from collections.abc import Awaitable
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, TypeVar

import asyncpg
import httpx
import pytest

T = TypeVar("T")

# A request runs in the test's task and so in its context. The service's background tasks started in another one.
_sent: ContextVar[list["Sent"]] = ContextVar("sent")


class Sent(NamedTuple):
    query: str
    arguments: tuple[Any, ...] = ()


def _recorded(name: str) -> Any:
    method = getattr(asyncpg.Connection, name)

    async def recorded(self: asyncpg.Connection, query: str, *arguments: Any, **options: Any) -> Any:
        record(query, *arguments)
        return await method(self, query, *arguments, **options)

    return recorded


_METHODS = ("execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval")
_RecordingConnection = type("RecordingConnection", (asyncpg.Connection,), {name: _recorded(name) for name in _METHODS})


def record(query: str, *arguments: Any) -> None:
    _sent.get([]).append(Sent(query, arguments))


def record_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection that asyncpg opens from now on record what it sends."""
    monkeypatch.setattr(asyncpg, "connect", partial(asyncpg.connect, connection_class=_RecordingConnection))


async def sent_by(work: Awaitable[T]) -> tuple[T, list[Sent]]:
    """Return the result of `work`, and the statements that it sent."""
    token = _sent.set([])
    result = await work
    sent = _sent.get()
    _sent.reset(token)
    return result, sent


async def trips(request: Awaitable[httpx.Response], status: int | None = None) -> int:
    """Send the request, check that it succeeds (with `status`), and return the number of its round trips."""
    answer, sent = await sent_by(request)
    assert answer.status_code == status if status else answer.is_success, answer.text
    return len(sent)
