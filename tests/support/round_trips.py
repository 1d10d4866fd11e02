"""Counting the round trips of a request to PostgreSQL, on the service's own connections."""

from collections.abc import Awaitable
from contextvars import ContextVar
from functools import partial
from typing import Any

import asyncpg
import httpx
import pytest

# A request runs in the test's task and so in its context. The service's background tasks started in another one.
_sent: ContextVar[list[str]] = ContextVar("sent")


def _recorded(name: str) -> Any:
    method = getattr(asyncpg.Connection, name)

    async def recorded(self: asyncpg.Connection, query: str, *arguments: Any, **options: Any) -> Any:
        record(query)
        return await method(self, query, *arguments, **options)

    return recorded


_METHODS = ("execute", "executemany", "fetch", "fetchrow", "fetchval")
_RecordingConnection = type("RecordingConnection", (asyncpg.Connection,), {name: _recorded(name) for name in _METHODS})


def record(query: str) -> None:
    _sent.get([]).append(query)


def record_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection that asyncpg opens from now on record what it sends."""
    monkeypatch.setattr(asyncpg, "connect", partial(asyncpg.connect, connection_class=_RecordingConnection))


async def trips(request: Awaitable[httpx.Response], status: int | None = None) -> int:
    """Send the request, check that it succeeds (with `status`), and return the number of its round trips."""
    token = _sent.set([])
    answer = await request
    sent = _sent.get()
    _sent.reset(token)
    assert answer.status_code == status if status else answer.is_success, answer.text
    return len(sent)
