"""Deletion of rows whose time is over, in short transactions of a bounded number of rows."""

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from services.kit.errors import Unavailable
from services.kit.postgres.database import Connection, Database
from services.kit.tasks import pause

log = structlog.get_logger("clean-up")

# Two-key locks are apart from the bigint keys that services lock by.
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('clean-up'), hashtext($1))"
_BATCH = 1_000
_PAUSE_SECONDS = 600.0


class Expiring(NamedTuple):
    """A table whose rows are deleted `kept` after the time in `column`, which an index has to lead with.

    `parts` is a table whose rows are deleted with them by a foreign key, any number for one row: they go before.
    """

    table: sa.Table
    column: sa.ColumnElement[Any]
    kept: timedelta = timedelta(0)
    parts: sa.Table | None = None


class CleanUp:
    """Delete what has expired, every ten minutes until nothing is left. One replica at a time works on a table."""

    def __init__(self, database: Database, registry: CollectorRegistry, *tables: Expiring) -> None:
        self._database = database
        self._deletions = [_Deletion(expiring) for expiring in tables]
        self._overdue = Gauge(
            "clean_up_overdue_seconds",
            "How long the oldest row should have been deleted already",
            ["table"],
            registry=registry,
        )
        self._deleted = Counter("clean_up_deleted_total", "Rows that had expired", ["table"], registry=registry)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.work(stop)
            await pause(stop, _PAUSE_SECONDS)

    async def work(self, stop: asyncio.Event) -> None:
        """Delete until nothing is left."""
        for deletion in self._deletions:
            try:
                await self._delete(deletion, stop)
            except Unavailable:
                log.warning("clean-up postponed: the database is unavailable", table=deletion.name)

    async def _delete(self, deletion: "_Deletion", stop: asyncio.Event) -> None:
        batch, found, after = _BATCH, True, None
        await self._measure(deletion, after)
        while found and not stop.is_set():
            try:
                deleted, latest = await self._database.transact(partial(deletion.delete, batch=batch, after=after))
            except Unavailable:
                # Try fewer: on a slow server this many may take longer than a statement may.
                if batch == 1:
                    raise
                batch //= 10
                continue
            self._deleted.labels(deletion.name).inc(deleted)
            found, after = deleted > 0, latest or after
        await self._measure(deletion, after)

    async def _measure(self, deletion: "_Deletion", after: datetime | None) -> None:
        async with self._database.connection() as connection:
            overdue = await connection.fetchval(deletion.overdue, after)
        self._overdue.labels(deletion.name).set(overdue or 0)


class _Deletion:
    """The statements for one table. They begin `after` the last time deleted: while an older snapshot is held, a search
    from the first one on would read again all that was deleted since.
    """

    def __init__(self, expiring: Expiring) -> None:
        self.name, time = expiring.table.name, expiring.column.name
        end = f"now() - interval '{expiring.kept.total_seconds()} seconds'"
        expired = f"{time} < {end} AND {time} >= coalesce($1, '-infinity'::timestamptz)"
        first = f"{expired} ORDER BY {time} LIMIT $2"
        self.overdue = f"""
            SELECT extract(epoch FROM {end} - {time})::float8 FROM {self.name} WHERE {expired} ORDER BY {time} LIMIT 1
        """  # noqa: S608 # nosec B608
        # The time again, because a row stays that another transaction has just prolonged.
        self._statements = [
            f"""
            WITH deleted AS (
                DELETE FROM {self.name}
                WHERE ctid = ANY(ARRAY(SELECT ctid FROM {self.name} WHERE {first})) AND {time} < {end}
                RETURNING {time}
            )
            SELECT count(*), max({time}) FROM deleted
            """  # noqa: S608 # nosec B608
        ]
        if expiring.parts is not None:
            (key,) = (key for key in expiring.parts.foreign_keys if key.column.table is expiring.table)
            part, whole = expiring.parts.name, key.parent.name
            self._statements.insert(
                0,
                f"""
                WITH expired AS (SELECT {key.column.name} FROM {self.name} WHERE {first}),
                deleted AS (
                    DELETE FROM {part} WHERE ctid = ANY(ARRAY(
                        SELECT {part}.ctid FROM expired JOIN {part} ON {part}.{whole} = expired.{key.column.name}
                        LIMIT $2
                    )) RETURNING 1
                )
                SELECT count(*), NULL::timestamptz FROM deleted
                """,  # noqa: S608 # nosec B608
            )

    async def delete(
        self, connection: Connection, *, batch: int, after: datetime | None
    ) -> tuple[int, datetime | None]:
        """Delete a batch of parts or, when the first rows have none, of rows; return how many, and the last time."""
        deleted, latest = 0, None
        if await connection.fetchval(_LOCK, self.name):
            for statement in self._statements:
                deleted, latest = await connection.fetchrow(statement, after, batch)
                if deleted:
                    break
        return deleted, latest
