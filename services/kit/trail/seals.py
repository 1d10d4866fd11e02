"""The chain over the audit trail in PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter

from services.kit.metrics import create_registry
from services.kit.postgres.database import Connection, Database, Statement
from services.kit.trail.chain import COLUMNS, START, KnownHead, Verdict, seal
from services.kit.trail.tables import AuditTables

_LOCK = 7_203_412
_BATCH = 1_000
_READ_AT_ONCE = 5_000
# A row is numbered before its transaction commits, and so may show up after rows with higher numbers: by as many as are
# written while a transaction lasts, which is bounded by the role's time-outs.
_LATE_ROWS = 10_000
_LATE = timedelta(seconds=60)


class Sealer:
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
        """Chain what is not chained yet. Every replica may try at once: one of them works."""
        sealed = _BATCH
        while sealed == _BATCH:
            sealed = await self._database.transact(self._seal_batch)
            self._sealed.inc(sealed)

    async def _seal_batch(self, connection: Connection) -> int:
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
            return 0
        # A statement of its own after the lock: its snapshot has the seals of whoever held the lock before.
        position, previous, highest = await self._head.fetchrow(connection) or (0, START, 0)
        rows = await self._unsealed.fetch(connection, after=highest - _LATE_ROWS)
        added = []
        for row in rows:
            position, previous = position + 1, seal(previous, row)
            added.append(self._add.values({"position": position, "seq": row["seq"], "hash": previous}))
        if added:
            await connection.executemany(self._add.sql, added)
        return len(rows)


_ADDED = ("position", "seq", "hash")


async def verify(database: Database, tables: AuditTables, known_head: str | None = None) -> Verdict:
    """Compute the chain anew."""
    log, seals = tables
    known = KnownHead.of(known_head)
    position, previous, highest = 0, START, 0
    sealed_at: datetime | None = None
    links = sa.select(seals.c.position, seals.c.hash, seals.c.sealed_at, seals.c.seq.label("sealed"))
    links = links.add_columns(*(log.c[name] for name in COLUMNS)).outerjoin(log, log.c.seq == seals.c.seq)

    def broken(what: str) -> Verdict:
        return Verdict(position, previous, 0, f"link {position + 1}: {what}")

    async for link in _in_batches(database, links, seals.c.position):
        if link["position"] != position + 1:
            return broken("its seal is missing")
        if link["seq"] is None:
            return broken(f"entry {link['sealed']} is missing")
        if (computed := seal(previous, link)) != link["hash"]:
            return broken(f"entry {link['seq']} or its seal was changed")
        if sealed_at and link["seq"] < highest and link["at"] < sealed_at - _LATE:
            return broken(f"entry {link['seq']} was added to the past")
        position, previous = link["position"], computed
        highest, sealed_at = max(highest, link["seq"]), link["sealed_at"]
        if position == known.position and previous.hex() != known.hash:
            return Verdict(position, previous, 0, f"link {position}: it is not the head that was known")
    if position < known.position:
        return broken(f"the chain ends before the known head at {known.position}")
    unsealed = 0
    rows = sa.select(log.c.seq, log.c.at, seals.c.position).outerjoin(seals, seals.c.seq == log.c.seq)
    async for row in _in_batches(database, rows, log.c.seq):
        if row["position"] is None:
            unsealed += 1
            if sealed_at and row["seq"] < highest and row["at"] < sealed_at - _LATE:
                return Verdict(position, previous, 0, f"entry {row['seq']} was added to the past and has no seal")
    return Verdict(position, previous, unsealed, None)


async def _in_batches(database: Database, query: sa.Select[Any], key: sa.Column[Any]) -> AsyncIterator[Any]:
    """By `key`, so many at a time that each statement ends within its time limit."""
    after = sa.bindparam("after", type_=sa.BigInteger)
    statement = Statement(query.where(key > after).order_by(key).limit(sa.literal_column(str(_READ_AT_ONCE))))
    last = -(2**63)
    while rows := await database.fetch(statement, after=last):
        for row in rows:
            yield row
        last = rows[-1][key.name]


async def verify_at(url: str, tables: AuditTables, known_head: str | None) -> Verdict:
    """For a command, which has no database yet."""
    database = Database(url, registry=create_registry(), max_connections=1)
    await database.open()
    try:
        return await verify(database, tables, known_head)
    finally:
        await database.close()
