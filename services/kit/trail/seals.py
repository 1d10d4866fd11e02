"""The chain over the audit trail in PostgreSQL: sealing entries, reading links back, and removing the first ones."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from services.kit.postgres.database import Connection, Database
from services.kit.postgres.horizon import TRANSACTIONS, Horizon
from services.kit.tasks import backoff
from services.kit.trail.chain import BEGINNING, COLUMNS, Head, next_hash
from services.kit.trail.entry import EXPIRED
from services.kit.trail.tables import AuditTrail
from services.kit.trail.verify import Link, Unsealed

_LOCK = 7_203_412
_BATCH = 1_000
_READ_AT_ONCE = 5_000
# Longer than a transaction of the application may last. An entry that commits later is reported as added to the past.
_LATE = timedelta(seconds=60)


class Sealer:
    """Add seals to the chain. Every replica may try at once: a lock lets one of them work.

    It looks for entries without a seal after `_through` only, up to which all were sealed when no transaction could
    still commit another one.
    """

    def __init__(self, database: Database, registry: CollectorRegistry) -> None:
        self._database = database
        self._horizon = Horizon()
        self._through: int | None = None
        self._sealed = Counter("audit_entries_sealed_total", "Audit entries chained", registry=registry)

    async def seal(self) -> None:
        """Seal the entries that have no seal yet."""
        sealed: int | None = _BATCH
        try:
            while sealed == _BATCH:
                sealed = await self._database.transact(self._seal_batch)
                self._sealed.inc(sealed or 0)
        except BaseException:
            self._through = None  # the database may be another one now, or the search may take too long
            raise
        if sealed is not None and self._through is not None:
            self._through = max(self._through, self._horizon.complete)

    async def _seal_batch(self, connection: Connection) -> int | None:
        """Seal a batch, and return its size; None while another replica is sealing."""
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
            return None
        # Statements of their own, after the lock: their snapshots include the seals of the lock's last holder, and that
        # of the last one includes what the transactions have committed that were over before.
        position, previous, highest = await connection.fetchrow(_HEAD) or (*BEGINNING, 0)
        if self._through is None:
            self._horizon, self._through = Horizon(), await connection.fetchval(_FIRST, _LATE) or 0
        self._horizon.observe(highest, *await connection.fetchrow(TRANSACTIONS))
        added = []
        for row in await connection.fetch(_UNSEALED, self._through, _BATCH):
            position, previous = position + 1, next_hash(previous, row)
            added.append((position, row["seq"], previous))
        if added:
            await connection.executemany(_ADD, added)
        return len(added)


class StoredChain:
    """The chain of the trail in `database`. Reads and deletes in batches, each within a statement's time limit."""

    _highest: int
    _sealed_at: datetime | None

    def __init__(self, database: Database) -> None:
        self._database = database

    async def start(self) -> Head:
        async with self._database.connection() as connection:
            return Head(*(await connection.fetchrow(_START) or BEGINNING))

    async def links(self, start: Head) -> AsyncIterator[Link]:
        self._highest, self._sealed_at = 0, None
        async for row in self._in_batches(_LINKS, "position", after=start.position):
            entry = row if row["seq"] is not None else None
            yield Link(row["position"], row["hash"], row["sealed"], entry, entry is not None and self._is_late(entry))
            self._highest, self._sealed_at = max(self._highest, row["sealed"]), row["sealed_at"]

    async def unsealed(self) -> AsyncIterator[Unsealed]:
        async for row in self._in_batches(_ENTRIES, "seq", after=-(2**63)):
            if not row["is_sealed"]:
                yield Unsealed(row["seq"], self._is_late(row))

    async def announce(self, expired: dict[str, Any]) -> None:
        await AuditTrail(self._database).add(expired)
        sealer = Sealer(self._database, CollectorRegistry())
        for attempt in count(1):
            await sealer.seal()
            async with self._database.connection() as connection:
                if not await connection.fetchval(_ANNOUNCED, EXPIRED):
                    return
            await asyncio.sleep(backoff(attempt, 0.05, 1.0))  # a replica may be sealing

    async def remove(self, through: Head) -> None:
        deleted = "DELETE 1"
        while deleted != "DELETE 0":
            async with self._database.connection() as connection:
                await connection.execute(_MOVE_START, *through)
                deleted = await connection.execute(_DELETE, through.position, _BATCH)

    def _is_late(self, entry: Any) -> bool:
        """Tell whether a higher number has been sealed, and longer after this entry than a transaction may last."""
        if self._sealed_at is None or entry["seq"] > self._highest:
            return False
        return bool(entry["at"] < self._sealed_at - _LATE)

    async def _in_batches(self, query: str, key: str, after: int) -> AsyncIterator[Any]:
        while True:
            async with self._database.connection() as connection:
                rows = await connection.fetch(query, after, _READ_AT_ONCE)
            if not rows:
                return
            for row in rows:
                yield row
            after = rows[-1][key]


_ENTRY = ", ".join(f"audit_log.{name}" for name in COLUMNS)
_HEAD = """
    SELECT position, hash, (SELECT max(seq) FROM audit_seals) FROM audit_seals ORDER BY position DESC LIMIT 1
"""
_FIRST = "SELECT seq FROM audit_seals WHERE sealed_at < now() - $1::interval ORDER BY position DESC LIMIT 1"
_UNSEALED = f"""
    SELECT {_ENTRY} FROM audit_log
    WHERE seq > $1 AND NOT EXISTS (SELECT FROM audit_seals WHERE audit_seals.seq = audit_log.seq)
    ORDER BY seq LIMIT $2
"""  # noqa: S608 # nosec B608
_ADD = "INSERT INTO audit_seals (position, seq, hash) VALUES ($1, $2, $3)"
_LINKS = f"""
    SELECT position, hash, sealed_at, audit_seals.seq AS sealed, {_ENTRY}
    FROM audit_seals LEFT JOIN audit_log ON audit_log.seq = audit_seals.seq
    WHERE position > $1 ORDER BY position LIMIT $2
"""  # noqa: S608 # nosec B608
_ENTRIES = """
    SELECT seq, at, EXISTS (SELECT FROM audit_seals WHERE audit_seals.seq = audit_log.seq) AS is_sealed
    FROM audit_log WHERE seq > $1 ORDER BY seq LIMIT $2
"""
_START = "SELECT position, hash FROM audit_expiries ORDER BY position DESC LIMIT 1"
_MOVE_START = "INSERT INTO audit_expiries (position, hash) SELECT $1::bigint, $2 WHERE $1 > 0 ON CONFLICT DO NOTHING"
_DELETE = """
    WITH removed AS (
        DELETE FROM audit_seals
        WHERE position IN (SELECT position FROM audit_seals WHERE position <= $1 ORDER BY position LIMIT $2)
        RETURNING seq
    )
    DELETE FROM audit_log USING removed WHERE audit_log.seq = removed.seq
"""
_ANNOUNCED = """
    SELECT count(*) FROM audit_log
    WHERE action = $1 AND NOT EXISTS (SELECT FROM audit_seals WHERE audit_seals.seq = audit_log.seq)
"""
