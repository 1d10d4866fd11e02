"""The audit trail in PostgreSQL. The application's role may insert and read entries, but not change or delete them."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
import sqlalchemy as sa

from services.kit.postgres.database import Database
from services.kit.trail.chain import COLUMNS
from services.kit.trail.entry import AuditEntry, AuditFilter

_INSTANT = sa.DateTime(timezone=True)
# A prefix, so that these parameters never clash with those of the statement they join.
_PREFIX = "audit_"


class AuditTables(NamedTuple):
    log: sa.Table
    seals: sa.Table
    expiries: sa.Table


def audit_tables(metadata: sa.MetaData) -> AuditTables:
    log = sa.Table(
        "audit_log",
        metadata,
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("at", _INSTANT, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("actor_id", sa.Uuid),
        sa.Column("actor_role", sa.Text),
        sa.Column("session_id", sa.Uuid),
        sa.Column("target_type", sa.Text, nullable=False),
        sa.Column("target_id", sa.Uuid),
        sa.Column("address", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.PrimaryKeyConstraint("seq", name="audit_log_pkey"),
        sa.CheckConstraint("result IN ('SUCCEEDED', 'REFUSED')", name="audit_log_result_known"),
        sa.CheckConstraint("(result = 'REFUSED') = (code IS NOT NULL)", name="audit_log_refusal_has_code"),
    )
    sa.Index("audit_log_by_actor", log.c.actor_id, log.c.seq, postgresql_where=log.c.actor_id.is_not(None))
    sa.Index("audit_log_by_target", log.c.target_id, log.c.seq, postgresql_where=log.c.target_id.is_not(None))
    sa.Index("audit_log_by_action", log.c.action, log.c.seq)
    # Almost free to maintain, because times come in order.
    sa.Index("audit_log_by_time", log.c.at, postgresql_using="brin")
    seals = sa.Table(
        "audit_seals",
        metadata,
        sa.Column("position", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("sealed_at", _INSTANT, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.PrimaryKeyConstraint("position", name="audit_seals_pkey"),
        sa.UniqueConstraint("seq", name="audit_seals_once"),
        sa.CheckConstraint("octet_length(hash) = 32", name="audit_seals_sha256"),
    )
    expiries = sa.Table(
        "audit_expiries",
        metadata,
        sa.Column("position", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("removed_at", _INSTANT, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.PrimaryKeyConstraint("position", name="audit_expiries_pkey"),
    )
    return AuditTables(log, seals, expiries)


_WRITTEN = tuple(name for name in COLUMNS if name not in ("seq", "at"))  # the database sets the other two


def insert_entry(log: sa.Table, *, for_each: sa.FromClause | None = None) -> sa.Insert:
    """Return the INSERT of `entry_values`, for a SQLAlchemy session or a `Statement`.

    With `for_each` it inserts one row for each row of that, such as the rows that the same statement changed.
    """
    values = {name: sa.bindparam(_PREFIX + name, type_=log.c[name].type) for name in _WRITTEN}
    if for_each is not None:
        return sa.insert(log).from_select(list(values), sa.select(*values.values()).select_from(for_each))
    return sa.insert(log).values(values)


def entry_values(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry as the values of `insert_entry`."""
    return {_PREFIX + name: value for name, value in entry.items()}


def entries_of(rows: Sequence[Any]) -> list[AuditEntry]:
    return [AuditEntry(id=row["seq"], **{name: row[name] for name in ("at", *_WRITTEN)}) for row in rows]


class AuditTrail:
    """Insert and list entries. An entry about a change joins that change's statement by `insert_entry` instead."""

    key = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, entry: dict[str, Any]) -> None:
        """Insert an entry about something that is no change, such as a refusal, in a transaction of its own."""
        async with self._database.connection() as connection:
            await connection.execute(_INSERT, *(entry[name] for name in _WRITTEN))

    async def list(self, wanted: AuditFilter, *, limit: int, before: int | None) -> Sequence[AuditEntry]:
        """Return the newest entries first, those before the id `before`."""
        values = wanted.values()
        if before is not None:
            values["before"] = before
        conditions = [_CONDITIONS[name].format(place) for place, name in enumerate(values, 1)]
        # A statement for each combination of filters, so that each has the plan of its index.
        query = f"{_SELECT} WHERE {' AND '.join(conditions) or 'true'} ORDER BY seq DESC LIMIT ${len(values) + 1}"
        async with self._database.connection() as connection:
            return entries_of(await connection.fetch(query, *values.values(), limit))


_INSERT = "INSERT INTO audit_log ({}) VALUES ({})".format(  # noqa: S608 # nosec B608
    ", ".join(_WRITTEN), ", ".join(f"${place}" for place in range(1, len(_WRITTEN) + 1))
)
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM audit_log"  # noqa: S608 # nosec B608
_CONDITIONS = {
    "actor_id": "actor_id = ${}",
    "target_id": "target_id = ${}",
    "action": "action = ${}",
    "from_": "at >= ${}",
    "to": "at < ${}",
    "before": "seq < ${}",
}
