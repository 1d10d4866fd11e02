"""The hours of doctors, and what they were."""

from services.kit.postgres.migrations import grant, run

revision = "0008"
down_revision = "0007"

_TABLES = """
CREATE TABLE schedules (
    doctor_id uuid NOT NULL CONSTRAINT schedules_pkey PRIMARY KEY,
    time_zone text NOT NULL,
    slot_minutes integer NOT NULL CONSTRAINT schedules_slot_minutes CHECK (slot_minutes BETWEEN 5 AND 240),
    minimum_notice_minutes integer NOT NULL CONSTRAINT schedules_notice CHECK (minimum_notice_minutes >= 0),
    horizon_days integer NOT NULL CONSTRAINT schedules_horizon CHECK (horizon_days > 0),
    version integer NOT NULL CONSTRAINT schedules_version_positive CHECK (version > 0),
    updated_at timestamptz NOT NULL
);
CREATE TABLE schedule_periods (
    id uuid NOT NULL CONSTRAINT schedule_periods_pkey PRIMARY KEY,
    doctor_id uuid NOT NULL CONSTRAINT schedule_periods_of_a_schedule REFERENCES schedules (doctor_id),
    valid daterange NOT NULL CONSTRAINT schedule_periods_valid CHECK (NOT isempty(valid)),
    cycle_weeks integer NOT NULL CONSTRAINT schedule_periods_cycle CHECK (cycle_weeks BETWEEN 1 AND 4),
    CONSTRAINT schedule_periods_no_overlap EXCLUDE USING gist (doctor_id WITH =, valid WITH &&)
);
CREATE TABLE schedule_hours (
    period_id uuid NOT NULL
        CONSTRAINT schedule_hours_of_a_period REFERENCES schedule_periods (id) ON DELETE CASCADE,
    week integer NOT NULL CONSTRAINT schedule_hours_week CHECK (week BETWEEN 0 AND 3),
    weekday integer NOT NULL CONSTRAINT schedule_hours_weekday CHECK (weekday BETWEEN 1 AND 7),
    start_minute integer NOT NULL CONSTRAINT schedule_hours_start CHECK (start_minute BETWEEN 0 AND 1439),
    end_minute integer NOT NULL,
    CONSTRAINT schedule_hours_pkey PRIMARY KEY (period_id, week, weekday, start_minute),
    CONSTRAINT schedule_hours_length CHECK (end_minute - start_minute BETWEEN 1 AND 1440),
    CONSTRAINT schedule_hours_no_overlap EXCLUDE USING gist
        (period_id WITH =, week WITH =, weekday WITH =, int4range(start_minute, end_minute) WITH &&)
);
CREATE TABLE schedule_history (
    doctor_id uuid NOT NULL CONSTRAINT schedule_history_schedule REFERENCES schedules (doctor_id),
    version integer NOT NULL,
    changed_at timestamptz NOT NULL,
    actor_id uuid NOT NULL,
    actor_role text NOT NULL,
    schedule jsonb NOT NULL,
    CONSTRAINT schedule_history_pkey PRIMARY KEY (doctor_id, version)
);
"""


def upgrade(application_role: str) -> None:
    run(_TABLES)
    grant(application_role, "SELECT, INSERT, UPDATE", "schedules")
    grant(application_role, "SELECT, INSERT, DELETE", "schedule_periods", "schedule_hours")
    grant(application_role, "SELECT, INSERT", "schedule_history")  # not even the service changes or removes history
