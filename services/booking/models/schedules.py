"""The hours of doctors and the exceptions from them, and what they were."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DATERANGE, JSONB, ExcludeConstraint

from services.booking.models.metadata import INSTANT, integer, metadata

# A doctor's hours, as minutes of the local day. The end of hours that pass midnight is more than 1440.
schedules = sa.Table(
    "schedules",
    metadata,
    sa.Column("doctor_id", sa.Uuid, primary_key=True),
    sa.Column("time_zone", sa.Text, nullable=False),
    integer("slot_minutes", "schedules_slot_minutes", "slot_minutes BETWEEN 5 AND 240"),
    integer("minimum_notice_minutes", "schedules_notice", "minimum_notice_minutes >= 0"),
    integer("horizon_days", "schedules_horizon", "horizon_days > 0"),
    integer("version", "schedules_version_positive", "version > 0"),
    sa.Column("updated_at", INSTANT, nullable=False),
    sa.Column("auto_confirm", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column(
        "cancellation_cutoff_minutes",
        sa.Integer,
        sa.CheckConstraint("cancellation_cutoff_minutes >= 0", name="schedules_cutoff"),
        nullable=False,
        server_default="0",
    ),
    sa.Column(
        "open_appointments_per_patient",
        sa.Integer,
        sa.CheckConstraint("open_appointments_per_patient > 0", name="schedules_open_appointments"),
    ),
    sa.Column("public_holidays", sa.Text),
)

schedule_periods = sa.Table(
    "schedule_periods",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("doctor_id", sa.ForeignKey("schedules.doctor_id", name="schedule_periods_of_a_schedule"), nullable=False),
    sa.Column("valid", DATERANGE, nullable=False),
    integer("cycle_weeks", "schedule_periods_cycle", "cycle_weeks BETWEEN 1 AND 4"),
    sa.CheckConstraint("NOT isempty(valid)", name="schedule_periods_valid"),
    ExcludeConstraint(("doctor_id", "="), ("valid", "&&"), name="schedule_periods_no_overlap", using="gist"),
)

_MINUTES = (sa.text("int4range(start_minute, end_minute)"), "&&")
_SAME_MINUTES = (*((name, "=") for name in ("period_id", "week", "weekday")), _MINUTES)
schedule_hours = sa.Table(
    "schedule_hours",
    metadata,
    sa.Column("period_id", sa.ForeignKey("schedule_periods.id", name="schedule_hours_of_a_period", ondelete="CASCADE")),
    integer("week", "schedule_hours_week", "week BETWEEN 0 AND 3"),
    integer("weekday", "schedule_hours_weekday", "weekday BETWEEN 1 AND 7"),
    integer("start_minute", "schedule_hours_start", "start_minute BETWEEN 0 AND 1439"),
    integer("end_minute", "schedule_hours_length", "end_minute - start_minute BETWEEN 1 AND 1440"),
    sa.PrimaryKeyConstraint("period_id", "week", "weekday", "start_minute", name="schedule_hours_pkey"),
    ExcludeConstraint(*_SAME_MINUTES, name="schedule_hours_no_overlap", using="gist"),
)

schedule_history = sa.Table(
    "schedule_history",
    metadata,
    sa.Column("doctor_id", sa.ForeignKey("schedules.doctor_id", name="schedule_history_schedule"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("changed_at", INSTANT, nullable=False),
    sa.Column("actor_id", sa.Uuid, nullable=False),
    sa.Column("actor_role", sa.Text, nullable=False),
    sa.Column("schedule", JSONB, nullable=False),
)

_LOCAL = sa.DateTime(timezone=False)
_KINDS = "kind IN ('OFF', 'EXTRA')"

# Leave and extra hours, as local times of the doctor's zone. They need no schedule, and are added and removed, never
# changed; only erasure takes the reason away.
schedule_exceptions = sa.Table(
    "schedule_exceptions",
    metadata,
    sa.Column("id", sa.Uuid, nullable=False),
    sa.Column("doctor_id", sa.Uuid, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("starts_at", _LOCAL, nullable=False),
    sa.Column("ends_at", _LOCAL, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("created_at", INSTANT, nullable=False),
    sa.PrimaryKeyConstraint("id", name="schedule_exceptions_pkey"),
    sa.CheckConstraint(_KINDS, name="schedule_exceptions_kind"),
    sa.CheckConstraint(
        "isfinite(starts_at) AND starts_at < ends_at AND ends_at <= starts_at + interval '366 days'",
        name="schedule_exceptions_length",
    ),
    sa.Index("schedule_exceptions_by_doctor", "doctor_id", "starts_at", "id"),
)

# The last revision of a doctor tells whether the exceptions that a process has read are still the present ones.
schedule_exception_history = sa.Table(
    "schedule_exception_history",
    metadata,
    sa.Column("doctor_id", sa.Uuid, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("changed_at", INSTANT, nullable=False),
    sa.Column("actor_id", sa.Uuid, nullable=False),
    sa.Column("actor_role", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("exception_id", sa.Uuid, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("starts_at", _LOCAL, nullable=False),
    sa.Column("ends_at", _LOCAL, nullable=False),
    sa.PrimaryKeyConstraint("doctor_id", "revision", name="schedule_exception_history_pkey"),
    sa.CheckConstraint("revision > 0", name="schedule_exception_history_revision"),
    sa.CheckConstraint("action IN ('ADDED', 'REMOVED')", name="schedule_exception_history_action"),
    sa.CheckConstraint(_KINDS, name="schedule_exception_history_kind"),
)
