"""Appointments, and what they were.

`appointments` holds every claim on time. A HELD row keeps a slot for a patient: it is not an appointment yet, and no
response or event shows it.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TSTZRANGE, ExcludeConstraint

from services.booking.models.appointment_types import appointment_types
from services.booking.models.metadata import INSTANT, metadata

# Literals, not parameters: with parameters PostgreSQL cannot prove that a partial index covers the query.
OCCUPIES_TIME = "status IN ('HELD', 'PENDING', 'CONFIRMED')"
OCCUPIES_DOCTOR = f"{OCCUPIES_TIME} AND NOT overbooked"
OVERBOOKED = f"{OCCUPIES_TIME} AND overbooked"


# `during` is the appointment itself. `blocked` is what it takes of the doctor's time: `during` plus the buffers that
# were in force at booking.
appointments = sa.Table(
    "appointments",
    metadata,
    sa.Column("id", sa.Uuid, nullable=False),
    sa.Column("doctor_id", sa.Uuid, nullable=False),
    sa.Column("patient_id", sa.Uuid, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("hold_expires_at", INSTANT),
    sa.Column("during", TSTZRANGE, nullable=False),
    sa.Column("blocked", TSTZRANGE, nullable=False),
    # Generated, so that they never disagree with the range; plain columns, so that an index can sort a list by them.
    sa.Column("starts_at", INSTANT, sa.Computed("lower(during)", persisted=True), nullable=False),
    sa.Column("ends_at", INSTANT, sa.Computed("upper(during)", persisted=True), nullable=False),
    sa.Column("overbooked", sa.Boolean, nullable=False),
    # What patient and doctor agreed on: the local time in the doctor's zone, computed with that version of the zones.
    sa.Column("time_zone", sa.Text, nullable=False),
    sa.Column("wall_time", sa.DateTime(timezone=False), nullable=False),
    sa.Column("tzdata_version", sa.Text, nullable=False),
    sa.Column("notes", sa.Text),
    sa.Column("cancellation_reason", sa.Text),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.Column("updated_at", INSTANT, nullable=False),
    # What it was booked as, copied: the type may change later. Its duration and its buffers are in the two ranges.
    sa.Column("type_id", sa.ForeignKey(appointment_types.c.id, name="appointments_of_a_type")),
    sa.Column("type_name", sa.Text),
    sa.Column("type_mode", sa.Text),
    sa.Column("type_price", sa.Numeric(10, 2)),
    sa.Column("requires_confirmation", sa.Boolean),
    sa.Column("join_url", sa.Text),
    sa.PrimaryKeyConstraint("id", name="appointments_pkey"),
    sa.CheckConstraint(
        "type_id IS NULL OR (type_name IS NOT NULL AND type_mode IS NOT NULL)", name="appointments_type_copied"
    ),
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
    sa.Index("appointments_by_type", "type_id", postgresql_where=sa.text("type_id IS NOT NULL")),
    sa.Index("appointments_by_doctor", "doctor_id", "starts_at", "id"),
    sa.Index("appointments_by_patient", "patient_id", "starts_at", "id"),
    sa.Index("appointments_by_time", "starts_at", "id"),
    sa.Index("appointments_by_status", "status", "starts_at", "id"),
    sa.Index("appointments_by_hold_expiry", "hold_expires_at", postgresql_where=sa.text("hold_expires_at IS NOT NULL")),
)

appointment_history = sa.Table(
    "appointment_history",
    metadata,
    sa.Column("appointment_id", sa.Uuid, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("changed_at", INSTANT, nullable=False),
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
