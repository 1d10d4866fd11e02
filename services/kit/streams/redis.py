"""Clients of Redis that give up soon and try nothing twice: their callers know what may be repeated, and when."""

from collections.abc import Iterable
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError


class _Uvloops(Connection):
    async def _send_packed_command(self, command: Iterable[bytes]) -> None:
        try:
            await super()._send_packed_command(command)
        except RuntimeError as error:
            # What uvloop says of a connection that the other side has reset, where asyncio has an OSError.
            raise ConnectionError(str(error)) from error


class _UvloopsTls(_Uvloops, SSLConnection): ...


def redis_client(
    url: str,
    *,
    connect_seconds: float,
    answer_seconds: float,
    connections: int | None = None,
    turn_seconds: float | None = None,
) -> Redis:
    """With a number of `connections`, more callers than that wait for their turn: for `turn_seconds`, or for as long as
    it takes.
    """
    told: dict[str, Any] = {**parse_url(url)}
    is_tls = told.get("connection_class") is SSLConnection
    options = told | {
        "connection_class": _UvloopsTls if is_tls else _Uvloops,
        "socket_connect_timeout": connect_seconds,
        "socket_timeout": answer_seconds,
        "retry": Retry(NoBackoff(), 0),
    }
    if connections is None:
        return Redis.from_pool(ConnectionPool(**options))
    return Redis.from_pool(BlockingConnectionPool(max_connections=connections, timeout=turn_seconds, **options))
