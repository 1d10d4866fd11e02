"""All tables of the service.

`appointments` holds every claim on time. A HELD row keeps a slot for a patient: it is not an appointment yet, and no
response or event shows it.
"""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, DATERANGE, JSONB, TSTZRANGE, ExcludeConstraint

from services.kit.postgres.clean_up import Expiring
from services.kit.postgres.outbox import outbox_tables
from services.kit.trail.tables import audit_tables

metadata = sa.MetaData()
_INSTANT = sa.DateTime(timezone=True)

# Literals, not parameters: with parameters PostgreSQL cannot prove that a partial index covers the query.
OCCUPIES_TIME = "status IN ('HELD', 'PENDING', 'CONFIRMED')"
OCCUPIES_DOCTOR = f"{OCCUPIES_TIME} AND NOT overbooked"
OVERBOOKED = f"{OCCUPIES_TIME} AND overbooked"


def _integer(name: str, constraint: str, check: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, sa.CheckConstraint(check, name=constraint), nullable=False)


# `during` is the appointment itself. `blocked` is what it takes of the doctor's time: `during` plus the buffers that
# were in force at booking.
appointments = sa.Table(
    "appointments",
    metadata,
    sa.Column("id", sa.Uuid, nullable=False),
    sa.Column("doctor_id", sa.Uuid, nullable=False),
    sa.Column("patient_id", sa.Uuid, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("hold_expires_at", _INSTANT),
    sa.Column("during", TSTZRANGE, nullable=False),
    sa.Column("blocked", TSTZRANGE, nullable=False),
    # Generated, so that they never disagree with the range; plain columns, so that an index can sort a list by them.
    sa.Column("starts_at", _INSTANT, sa.Computed("lower(during)", persisted=True), nullable=False),
    sa.Column("ends_at", _INSTANT, sa.Computed("upper(during)", persisted=True), nullable=False),
    sa.Column("overbooked", sa.Boolean, nullable=False),
    # What patient and doctor agreed on: the local time in the doctor's zone, computed with that version of the zones.
    sa.Column("time_zone", sa.Text, nullable=False),
    sa.Column("wall_time", sa.DateTime(timezone=False), nullable=False),
    sa.Column("tzdata_version", sa.Text, nullable=False),
    sa.Column("notes", sa.Text),
    sa.Column("cancellation_reason", sa.Text),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_at", _INSTANT, nullable=False),
    sa.Column("updated_at", _INSTANT, nullable=False),
    sa.PrimaryKeyConstraint("id", name="appointments_pkey"),
    sa.CheckConstraint(
        "status IN ('HELD', 'PENDING', 'CONFIRMED', 'COMPLETED', 'NO_SHOW', 'CANCELLED')",
        name="appointments_status_known",
    ),
    sa.CheckConstraint("(status = 'HELD') = (hold_expires_at IS NOT NULL)", name="appointments_hold_expires"),
    sa.CheckConstraint(
        "NOT isempty(during) AND lower_inc(during) AND NOT upper_inc(during)"
        " AND isfinite(lower(during)) AND isfinite(upper(during))",
        name="appointments_during_half_open",
    ),
    sa.CheckConstraint("blocked @> during", name="appointments_blocked_covers_visit"),
    sa.CheckConstraint("version > 0", name="appointments_version_positive"),
    ExcludeConstraint(
        (sa.column("doctor_id"), "="),
        (sa.column("blocked"), "&&"),
        name="appointment_doctor_no_overlap",
        using="gist",
        where=sa.text(OCCUPIES_DOCTOR),
    ),
    ExcludeConstraint(
        (sa.column("patient_id"), "="),
        (sa.column("during"), "&&"),
        name="appointment_patient_no_overlap",
        using="gist",
        where=sa.text(OCCUPIES_TIME),
    ),
    # Overbooked appointments are exempt from the doctor's constraint, but later bookings must not overlap them.
    sa.Index(
        "appointments_overbooked",
        "doctor_id",
        "blocked",
        postgresql_using="gist",
        postgresql_where=sa.text(OVERBOOKED),
    ),
    sa.Index("appointments_by_doctor", "doctor_id", "starts_at", "id"),
    sa.Index("appointments_by_patient", "patient_id", "starts_at", "id"),
    sa.Index("appointments_by_time", "starts_at", "id"),
    sa.Index("appointments_by_status", "status", "starts_at", "id"),
)

appointment_history = sa.Table(
    "appointment_history",
    metadata,
    sa.Column("appointment_id", sa.Uuid, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("changed_at", _INSTANT, nullable=False),
    sa.Column("actor_id", sa.Uuid),
    sa.Column("actor_role", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    # The new values of the fields that changed; all fields in version 1 and in each fiftieth, for a page to begin at.
    sa.Column("changes", JSONB),
    # Whole states, which an earlier release wrote instead.
    sa.Column("before", JSONB),
    sa.Column("after", JSONB),
    sa.PrimaryKeyConstraint("appointment_id", "version", name="appointment_history_pkey"),
    sa.ForeignKeyConstraint(["appointment_id"], ["appointments.id"], name="appointment_history_of_an_appointment"),
    sa.CheckConstraint("(actor_role = 'SYSTEM') = (actor_id IS NULL)", name="appointment_history_actor"),
    sa.CheckConstraint("changes IS NOT NULL OR after IS NOT NULL", name="appointment_history_has_changes"),
)

# A doctor's hours, as minutes of the local day. The end of hours that pass midnight is more than 1440.
schedules = sa.Table(
    "schedules",
    metadata,
    sa.Column("doctor_id", sa.Uuid, primary_key=True),
    sa.Column("time_zone", sa.Text, nullable=False),
    _integer("slot_minutes", "schedules_slot_minutes", "slot_minutes BETWEEN 5 AND 240"),
    _integer("minimum_notice_minutes", "schedules_notice", "minimum_notice_minutes >= 0"),
    _integer("horizon_days", "schedules_horizon", "horizon_days > 0"),
    _integer("version", "schedules_version_positive", "version > 0"),
    sa.Column("updated_at", _INSTANT, nullable=False),
    sa.Column("auto_confirm", sa.Boolean, nullable=False, server_default=sa.false()),
)

schedule_periods = sa.Table(
    "schedule_periods",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("doctor_id", sa.ForeignKey("schedules.doctor_id", name="schedule_periods_of_a_schedule"), nullable=False),
    sa.Column("valid", DATERANGE, nullable=False),
    _integer("cycle_weeks", "schedule_periods_cycle", "cycle_weeks BETWEEN 1 AND 4"),
    sa.CheckConstraint("NOT isempty(valid)", name="schedule_periods_valid"),
    ExcludeConstraint(("doctor_id", "="), ("valid", "&&"), name="schedule_periods_no_overlap", using="gist"),
)

_MINUTES = (sa.text("int4range(start_minute, end_minute)"), "&&")
_SAME_MINUTES = (*((name, "=") for name in ("period_id", "week", "weekday")), _MINUTES)
schedule_hours = sa.Table(
    "schedule_hours",
    metadata,
    sa.Column("period_id", sa.ForeignKey("schedule_periods.id", name="schedule_hours_of_a_period", ondelete="CASCADE")),
    _integer("week", "schedule_hours_week", "week BETWEEN 0 AND 3"),
    _integer("weekday", "schedule_hours_weekday", "weekday BETWEEN 1 AND 7"),
    _integer("start_minute", "schedule_hours_start", "start_minute BETWEEN 0 AND 1439"),
    _integer("end_minute", "schedule_hours_length", "end_minute - start_minute BETWEEN 1 AND 1440"),
    sa.PrimaryKeyConstraint("period_id", "week", "weekday", "start_minute", name="schedule_hours_pkey"),
    ExcludeConstraint(*_SAME_MINUTES, name="schedule_hours_no_overlap", using="gist"),
)

schedule_history = sa.Table(
    "schedule_history",
    metadata,
    sa.Column("doctor_id", sa.ForeignKey("schedules.doctor_id", name="schedule_history_schedule"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("changed_at", _INSTANT, nullable=False),
    sa.Column("actor_id", sa.Uuid, nullable=False),
    sa.Column("actor_role", sa.Text, nullable=False),
    sa.Column("schedule", JSONB, nullable=False),
)

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
    sa.Column("created_at", _INSTANT, nullable=False, server_default=sa.func.now()),
    sa.PrimaryKeyConstraint("user_id", "route", "key", name="idempotency_keys_pkey"),
    sa.Index("idempotency_keys_by_age", "created_at"),
    sa.Index("idempotency_keys_by_person", "people", postgresql_using="gin"),
)

# The projection of auth's users. `version` is auth's; `suspension_version` is the version of the last suspension whose
# appointments were kept or cancelled.
users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Uuid, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("full_name", sa.Text, nullable=False),
    sa.Column("time_zone", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("email_verified", sa.Boolean),
    sa.Column("suspension_version", sa.Integer, nullable=False, server_default="0"),
    sa.PrimaryKeyConstraint("id", name="users_pkey"),
)

# Sessions that ended before their time, kept until their last access token has expired.
revoked_sessions = sa.Table(
    "revoked_sessions",
    metadata,
    sa.Column("session_id", sa.Uuid, nullable=False),
    sa.Column("expires_at", _INSTANT, nullable=False),
    sa.PrimaryKeyConstraint("session_id", name="revoked_sessions_pkey"),
    sa.Index("revoked_sessions_by_expiry", "expires_at"),
)

# The last good key set of auth.
token_keys = sa.Table(
    "token_keys",
    metadata,
    sa.Column("id", sa.SmallInteger, sa.CheckConstraint("id = 1", name="token_keys_one_row"), nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("saved_at", _INSTANT, nullable=False, server_default=sa.func.now()),
    sa.PrimaryKeyConstraint("id", name="token_keys_pkey"),
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
    sa.Column("created_at", _INSTANT, nullable=False, server_default=sa.func.now()),
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
)
