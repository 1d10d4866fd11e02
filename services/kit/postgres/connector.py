"""Opening connections to PostgreSQL: to one of several servers, directly or through a pooler."""

from typing import Any

import asyncpg
import structlog
from asyncpg import Connection

from services.kit import postgres_url

log = structlog.get_logger("connector")


class Connector:
    """Open connections to the database of a URL, and find out whether a pooler such as PgBouncer is in between.

    In a pooler's transaction mode each transaction may run on another connection to the server, which does not have the
    statements that asyncpg prepared and named on an earlier one. Behind a pooler asyncpg therefore names none, and each
    takes one more round trip.
    """

    def __init__(self, url: str) -> None:
        self._url = postgres_url.parse(url)
        self._first = 0
        self.is_pooled = False

    async def connect(self, **options: Any) -> Connection:
        """Open a connection with `options` of asyncpg. After a failure the next attempt begins with the next host.

        asyncpg tries one host after the other, and would spend the whole time on a first one that does not answer.
        """
        first, names_statements = self._first, not self.is_pooled
        try:
            connection = await self._open(first, options)
            # `is_pooled` may have changed since, but not what this connection does.
            if not names_statements or await _is_direct(connection):
                return connection
            connection.terminate()
            if not self.is_pooled:
                log.info("connections to PostgreSQL go through a pooler")
            self.is_pooled = True
            return await self._open(first, options)
        except BaseException:
            if self._first == first and self._url.hosts:  # not yet moved on by another attempt
                self._first = (first + 1) % len(self._url.hosts)
            raise

    async def _open(self, first: int, options: dict[str, Any]) -> Connection:
        arguments = {**self._url.arguments(first), **options}
        if self.is_pooled:
            arguments["statement_cache_size"] = 0
        if self._url.open_seconds is not None:
            arguments.setdefault("timeout", self._url.open_seconds)
        connection: Connection = await asyncpg.connect(**arguments)
        return connection


async def _is_direct(connection: Connection) -> bool:
    """Compare the server's process with the one that was announced for this connection: a pooler invents that one.

    The question is a simple query, which prepares nothing, since a pooler could not close what it prepares.
    """
    try:
        status = await connection.execute(f"SELECT WHERE pg_backend_pid() = {connection.get_server_pid()}")
    except BaseException:
        connection.terminate()
        raise
    return status == "SELECT 1"
