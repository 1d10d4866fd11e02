"""Appointments and their history, idempotency keys, the users' projection, token keys, dead letters and the outbox."""

from sqlalchemy import MetaData

from services.kit.postgres.migrations import admit, create, grant, run
from services.kit.postgres.outbox import outbox_tables

revision = "0001"
down_revision = None

_TABLES = """
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE TABLE appointments (
    id uuid NOT NULL CONSTRAINT appointments_pkey PRIMARY KEY,
    doctor_id uuid NOT NULL,
    patient_id uuid NOT NULL,
    status text NOT NULL,
    hold_expires_at timestamptz,
    during tstzrange NOT NULL,
    blocked tstzrange NOT NULL,
    starts_at timestamptz NOT NULL GENERATED ALWAYS AS (lower(during)) STORED,
    ends_at timestamptz NOT NULL GENERATED ALWAYS AS (upper(during)) STORED,
    overbooked boolean NOT NULL,
    time_zone text NOT NULL,
    wall_time timestamp NOT NULL,
    tzdata_version text NOT NULL,
    notes text,
    cancellation_reason text,
    version integer NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT appointments_status_known
        CHECK (status IN ('HELD', 'PENDING', 'CONFIRMED', 'COMPLETED', 'NO_SHOW', 'CANCELLED')),
    CONSTRAINT appointments_hold_expires CHECK ((status = 'HELD') = (hold_expires_at IS NOT NULL)),
    CONSTRAINT appointments_during_half_open CHECK (
        NOT isempty(during) AND lower_inc(during) AND NOT upper_inc(during)
        AND isfinite(lower(during)) AND isfinite(upper(during))),
    CONSTRAINT appointments_blocked_covers_visit CHECK (blocked @> during),
    CONSTRAINT appointments_version_positive CHECK (version > 0),
    CONSTRAINT appointment_doctor_no_overlap EXCLUDE USING gist (doctor_id WITH =, blocked WITH &&)
        WHERE (status IN ('HELD', 'PENDING', 'CONFIRMED') AND NOT overbooked),
    CONSTRAINT appointment_patient_no_overlap EXCLUDE USING gist (patient_id WITH =, during WITH &&)
        WHERE (status IN ('HELD', 'PENDING', 'CONFIRMED'))
);
CREATE INDEX appointments_overbooked ON appointments USING gist (doctor_id, blocked)
    WHERE status IN ('HELD', 'PENDING', 'CONFIRMED') AND overbooked;
CREATE INDEX appointments_by_doctor ON appointments (doctor_id, starts_at, id);
CREATE INDEX appointments_by_patient ON appointments (patient_id, starts_at, id);
CREATE INDEX appointments_by_time ON appointments (starts_at, id);
CREATE INDEX appointments_by_status ON appointments (status, starts_at, id);

CREATE TABLE appointment_history (
    appointment_id uuid NOT NULL,
    version integer NOT NULL,
    changed_at timestamptz NOT NULL,
    actor_id uuid,
    actor_role text NOT NULL,
    reason text,
    before jsonb,
    after jsonb NOT NULL,
    CONSTRAINT appointment_history_pkey PRIMARY KEY (appointment_id, version),
    CONSTRAINT appointment_history_of_an_appointment FOREIGN KEY (appointment_id) REFERENCES appointments (id),
    CONSTRAINT appointment_history_actor CHECK ((actor_role = 'SYSTEM') = (actor_id IS NULL))
);

CREATE TABLE idempotency_keys (
    user_id uuid NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    status smallint NOT NULL,
    location text NOT NULL,
    etag text NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, route, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

CREATE TABLE users (
    id uuid NOT NULL CONSTRAINT users_pkey PRIMARY KEY,
    role text NOT NULL,
    status text NOT NULL,
    full_name text NOT NULL,
    time_zone text NOT NULL,
    version integer NOT NULL,
    suspension_version integer NOT NULL DEFAULT 0
);

CREATE TABLE token_keys (
    id smallint NOT NULL CONSTRAINT token_keys_pkey PRIMARY KEY CONSTRAINT token_keys_one_row CHECK (id = 1),
    document bytea NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE dead_letters (
    id uuid NOT NULL CONSTRAINT dead_letters_pkey PRIMARY KEY,
    stream text NOT NULL,
    "group" text NOT NULL,
    entry_id text NOT NULL,
    reason text NOT NULL,
    error text NOT NULL,
    fields jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX dead_letters_once ON dead_letters (stream, entry_id, (fields ->> 'id')) NULLS NOT DISTINCT;
"""


def upgrade(application_role: str) -> None:
    run(_TABLES)
    create(*outbox_tables(MetaData()))
    admit(application_role)
    grant(application_role, "SELECT, INSERT, UPDATE, DELETE", "appointments", "idempotency_keys", "outbox")
    grant(application_role, "SELECT, INSERT, UPDATE", "users", "token_keys", "relay_state")
    grant(application_role, "SELECT, INSERT, DELETE", "dead_letters")
    grant(application_role, "SELECT, INSERT", "appointment_history")  # not even the service changes or removes history
