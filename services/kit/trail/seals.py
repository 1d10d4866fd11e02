"""The chain over the audit trail in PostgreSQL: sealing it, and reading it back to verify it."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter

from services.kit.postgres.database import Connection, Database, Statement
from services.kit.trail import verify as chains
from services.kit.trail.chain import COLUMNS, START, next_hash
from services.kit.trail.tables import AuditTables
from services.kit.trail.verify import Link, Unsealed, Verdict

_LOCK = 7_203_412
_BATCH = 1_000
_READ_AT_ONCE = 5_000
# A row gets its number before its transaction commits, and so may appear after rows with higher numbers: as many as are
# inserted while a transaction lasts, which the role's time limits bound.
_LATE_ROWS = 10_000
_LATE = timedelta(seconds=60)


class Sealer:
    """Add seals to the chain. Every replica may try at once: a lock lets one of them work."""

    def __init__(self, database: Database, tables: AuditTables, registry: CollectorRegistry) -> None:
        self._database = database
        log, seals = tables
        highest = sa.select(sa.func.max(seals.c.seq)).scalar_subquery()
        self._head = Statement(
            sa.select(seals.c.position, seals.c.hash, highest.label("highest"))
            .order_by(seals.c.position.desc())
            .limit(sa.literal_column("1"))
        )
        self._unsealed = Statement(
            sa.select(*(log.c[name] for name in COLUMNS))
            .where(
                log.c.seq > sa.bindparam("after", type_=sa.BigInteger),
                ~sa.exists(sa.select(seals.c.seq).where(seals.c.seq == log.c.seq)),
            )
            .order_by(log.c.seq)
            .limit(sa.literal_column(str(_BATCH)))
        )
        self._add = Statement(
            sa.insert(seals).values({name: sa.bindparam(name, type_=seals.c[name].type) for name in _ADDED})
        )
        self._sealed = Counter("audit_entries_sealed_total", "Audit entries chained", registry=registry)

    async def seal(self) -> None:
        """Seal the entries that have no seal yet."""
        sealed = _BATCH
        while sealed == _BATCH:
            sealed = await self._database.transact(self._seal_batch)
            self._sealed.inc(sealed)

    async def _seal_batch(self, connection: Connection) -> int:
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
            return 0
        # Its own statement, after the lock: its snapshot includes the seals that the lock's last holder has added.
        position, previous, highest = await self._head.fetchrow(connection) or (0, START, 0)
        rows = await self._unsealed.fetch(connection, after=highest - _LATE_ROWS)
        added = []
        for row in rows:
            position, previous = position + 1, next_hash(previous, row)
            added.append(self._add.values({"position": position, "seq": row["seq"], "hash": previous}))
        if added:
            await connection.executemany(self._add.sql, added)
        return len(rows)


_ADDED = ("position", "seq", "hash")


async def verify(database: Database, tables: AuditTables, known_head: str | None = None) -> Verdict:
    """Verify the chain over the trail in `database`."""
    chain = _StoredChain(database, tables)
    return await chains.verify(chain.links(), chain.unsealed(), known_head)


class _StoredChain:
    """Reads in batches that each end within the role's time limit for a statement."""

    def __init__(self, database: Database, tables: AuditTables) -> None:
        self._database, (self._log, self._seals) = database, tables
        self._highest = 0
        self._sealed_at: datetime | None = None

    async def links(self) -> AsyncIterator[Link]:
        log, seals = self._log.c, self._seals.c
        query = sa.select(seals.position, seals.hash, seals.sealed_at, seals.seq.label("sealed"))
        query = query.add_columns(*(log[name] for name in COLUMNS)).outerjoin(self._log, log.seq == seals.seq)
        async for row in self._in_batches(query, seals.position):
            entry = row if row["seq"] is not None else None
            yield Link(row["position"], row["hash"], row["sealed"], entry, entry is not None and self._is_late(entry))
            self._highest, self._sealed_at = max(self._highest, row["sealed"]), row["sealed_at"]

    async def unsealed(self) -> AsyncIterator[Unsealed]:
        log, seals = self._log.c, self._seals.c
        query = sa.select(log.seq, log.at, seals.position).outerjoin(self._seals, seals.seq == log.seq)
        async for row in self._in_batches(query, log.seq):
            if row["position"] is None:
                yield Unsealed(row["seq"], self._is_late(row))

    def _is_late(self, entry: Any) -> bool:
        """Tell whether a higher number has been sealed, and longer after this entry than a transaction may last."""
        if self._sealed_at is None or entry["seq"] > self._highest:
            return False
        return bool(entry["at"] < self._sealed_at - _LATE)

    async def _in_batches(self, query: sa.Select[Any], key: sa.Column[Any]) -> AsyncIterator[Any]:
        after = sa.bindparam("after", type_=sa.BigInteger)
        statement = Statement(query.where(key > after).order_by(key).limit(sa.literal_column(str(_READ_AT_ONCE))))
        last = -(2**63)
        while rows := await self._database.fetch(statement, after=last):
            for row in rows:
                yield row
            last = rows[-1][key.name]
