"""Clients of Redis that give up soon and retry nothing: their callers know what may be repeated, and when."""

from collections.abc import Iterable
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError


class _UvloopConnection(Connection):
    async def _send_packed_command(self, command: Iterable[bytes]) -> None:
        try:
            await super()._send_packed_command(command)
        except RuntimeError as error:
            # uvloop raises this for a connection that the other side has reset, where asyncio raises OSError.
            raise ConnectionError(str(error)) from error


class _UvloopTlsConnection(_UvloopConnection, SSLConnection): ...


def redis_client(
    url: str,
    *,
    connect_seconds: float,
    answer_seconds: float,
    connections: int | None = None,
    turn_seconds: float | None = None,
) -> Redis:
    """Make a client. With a number of `connections`, further callers wait for one for `turn_seconds`, or for ever."""
    options: dict[str, Any] = {**parse_url(url)}
    is_tls = options.get("connection_class") is SSLConnection
    options |= {
        "connection_class": _UvloopTlsConnection if is_tls else _UvloopConnection,
        "socket_connect_timeout": connect_seconds,
        "socket_timeout": answer_seconds,
        "retry": Retry(NoBackoff(), 0),
    }
    if connections is None:
        return Redis.from_pool(ConnectionPool(**options))
    return Redis.from_pool(BlockingConnectionPool(max_connections=connections, timeout=turn_seconds, **options))
