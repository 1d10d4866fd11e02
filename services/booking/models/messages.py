"""Answers to repeat, events to publish and events that could not be handled; the audit trail."""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.booking.models.appointments import appointments
from services.booking.models.metadata import INSTANT, metadata
from services.booking.models.users import revoked_sessions
from services.kit.postgres.clean_up import Expiring
from services.kit.postgres.outbox import outbox_tables
from services.kit.trail.tables import audit_tables

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("user_id", sa.Uuid, nullable=False),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("location", sa.Text),
    sa.Column("etag", sa.Text),
    sa.Column("body", sa.LargeBinary, nullable=False),
    # The users whose data the body holds: the answer is deleted when one of them is erased.
    sa.Column("people", ARRAY(sa.Uuid), nullable=False, server_default=sa.text("'{}'")),
    sa.Column("created_at", INSTANT, nullable=False, server_default=sa.func.now()),
    sa.PrimaryKeyConstraint("user_id", "route", "key", name="idempotency_keys_pkey"),
    sa.Index("idempotency_keys_by_age", "created_at"),
    sa.Index("idempotency_keys_by_person", "people", postgresql_using="gin"),
)

# Events that could not be handled, as they arrived.
dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("id", sa.Uuid, nullable=False),
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("group", sa.Text, nullable=False),
    sa.Column("entry_id", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("fields", JSONB, nullable=False),
    sa.Column("created_at", INSTANT, nullable=False, server_default=sa.func.now()),
    sa.PrimaryKeyConstraint("id", name="dead_letters_pkey"),
)
# The event's id is part of it: after a restored backup the writer gives old entry ids to other events.
sa.Index(
    "dead_letters_once",
    dead_letters.c.stream,
    dead_letters.c.entry_id,
    dead_letters.c.fields["id"].astext,
    unique=True,
    postgresql_nulls_not_distinct=True,
)

outbox, relay_state = outbox_tables(metadata)
audit_log = audit_tables(metadata).log

EXPIRING = (
    Expiring(idempotency_keys, idempotency_keys.c.created_at, kept=timedelta(hours=24)),
    Expiring(revoked_sessions, revoked_sessions.c.expires_at),
    # An expired hold still books its time when that is free; nothing but its own row reminds of it.
    Expiring(appointments, appointments.c.hold_expires_at, kept=timedelta(hours=1)),
)
