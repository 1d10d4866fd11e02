"""Leave, extra hours and public holidays."""

from services.kit.postgres.migrations import grant, run

revision = "0013"
down_revision = "0012"

_TABLES = """
ALTER TABLE schedules ADD public_holidays text;
CREATE TABLE schedule_exceptions (
    id uuid NOT NULL CONSTRAINT schedule_exceptions_pkey PRIMARY KEY,
    doctor_id uuid NOT NULL,
    kind text NOT NULL CONSTRAINT schedule_exceptions_kind CHECK (kind IN ('OFF', 'EXTRA')),
    starts_at timestamp NOT NULL,
    ends_at timestamp NOT NULL,
    reason text,
    created_at timestamptz NOT NULL,
    CONSTRAINT schedule_exceptions_length CHECK
        (isfinite(starts_at) AND starts_at < ends_at AND ends_at <= starts_at + interval '366 days')
);
CREATE INDEX schedule_exceptions_by_doctor ON schedule_exceptions (doctor_id, starts_at, id);
CREATE TABLE schedule_exception_history (
    doctor_id uuid NOT NULL,
    revision integer NOT NULL CONSTRAINT schedule_exception_history_revision CHECK (revision > 0),
    changed_at timestamptz NOT NULL,
    actor_id uuid NOT NULL,
    actor_role text NOT NULL,
    action text NOT NULL CONSTRAINT schedule_exception_history_action CHECK (action IN ('ADDED', 'REMOVED')),
    exception_id uuid NOT NULL,
    kind text NOT NULL CONSTRAINT schedule_exception_history_kind CHECK (kind IN ('OFF', 'EXTRA')),
    starts_at timestamp NOT NULL,
    ends_at timestamp NOT NULL,
    CONSTRAINT schedule_exception_history_pkey PRIMARY KEY (doctor_id, revision)
);
"""


def upgrade(application_role: str) -> None:
    run(_TABLES)
    grant(application_role, "SELECT, INSERT, DELETE, UPDATE (reason)", "schedule_exceptions")
    grant(application_role, "SELECT, INSERT", "schedule_exception_history")  # as that of schedules
