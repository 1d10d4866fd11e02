"""Opening connections to PostgreSQL, directly or through a pooler."""

from typing import Any

import asyncpg
import structlog
from asyncpg import Connection

from services.kit.urls import asyncpg_url

log = structlog.get_logger("connector")


class Connector:
    """Open connections to the database of a URL, and find out whether a pooler such as PgBouncer is in between.

    In its transaction mode each transaction may run on another connection to the server, which does not have the
    statements that asyncpg prepared on an earlier one. Behind a pooler asyncpg therefore prepares each again.
    """

    def __init__(self, url: str) -> None:
        self._url = asyncpg_url(url)
        self.is_pooled = False

    async def connect(self, **options: Any) -> Connection:
        connection = await self._open(**options)
        if self.is_pooled or await _is_direct(connection):
            return connection
        log.info("connections to PostgreSQL go through a pooler")
        self.is_pooled = True
        await connection.close()
        return await self._open(**options)

    async def _open(self, **options: Any) -> Connection:
        if self.is_pooled:
            options["statement_cache_size"] = 0
        connection: Connection = await asyncpg.connect(self._url, **options)
        return connection


async def _is_direct(connection: Connection) -> bool:
    """Compare the server process with the one that was announced: a pooler announces an invented one.

    The status of a plain query says it without a prepared statement, which could not be closed again behind a pooler.
    """
    status = await connection.execute(f"SELECT WHERE pg_backend_pid() = {connection.get_server_pid()}")
    return status == "SELECT 1"
