"""The transactional outbox: an event is a row, inserted in the transaction of the change that it announces."""

from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from services.kit.log import request_id, traceparent


class OutboxTables(NamedTuple):
    outbox: sa.Table
    relay_state: sa.Table


def outbox_tables(metadata: sa.MetaData) -> OutboxTables:
    """Define the tables, with the column names of Debezium's outbox router, so that it could replace the relay."""
    outbox = sa.Table(
        "outbox",
        metadata,
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("aggregatetype", sa.Text, nullable=False),
        sa.Column("aggregateid", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("stream_seq", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="outbox_pkey"),
        sa.UniqueConstraint("seq", name="outbox_seq_unique"),
        sa.UniqueConstraint("stream_seq", name="outbox_stream_seq_unique"),
    )
    sa.Index("outbox_unpublished", outbox.c.seq, postgresql_where=outbox.c.stream_seq.is_(None))
    relay_state = sa.Table(
        "relay_state",
        metadata,
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("acked_through", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("stream", name="relay_state_pkey"),
    )
    return OutboxTables(outbox, relay_state)


def insert_event(outbox: sa.Table, *, for_each: sa.FromClause | None = None) -> sa.Insert:
    """Return the INSERT of `event_values`, for a SQLAlchemy session or a `Statement`.

    With `for_each` it inserts one row for each row of that, such as the rows that the same statement changed: without a
    change there is no event.
    """
    names = ("id", "aggregatetype", "aggregateid", "type", "version", "traceparent", "request_id")
    values: dict[str, Any] = {name: sa.bindparam(name, type_=outbox.c[name].type) for name in names}
    # Cast from text, because what a driver makes of a jsonb parameter depends on its connection's codec.
    values["payload"] = sa.cast(sa.bindparam("payload", type_=sa.Text), JSONB)
    if for_each is not None:
        return sa.insert(outbox).from_select(list(values), sa.select(*values.values()).select_from(for_each))
    return sa.insert(outbox).values(values)


def event_values(
    event: msgspec.Struct, *, event_id: UUID, aggregatetype: str, aggregateid: UUID, version: int
) -> dict[str, Any]:
    """Return the values of `insert_event` for a tagged event, with the current request's id and trace.

    `version` is the aggregate's after the change. Readers recognize a repeated delivery by `event_id`.
    """
    return {
        "id": event_id,
        "aggregatetype": aggregatetype,
        "aggregateid": str(aggregateid),
        "type": event.__struct_config__.tag,
        "version": version,
        "payload": msgspec.json.encode(event).decode(),
        "traceparent": traceparent.get(),
        "request_id": request_id.get(),
    }
