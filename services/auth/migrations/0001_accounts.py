"""Accounts, their sessions and the outbox, and what the application's role may do."""

from sqlalchemy import MetaData

from services.kit.postgres.migrations import admit, create, grant, run
from services.kit.postgres.outbox import outbox_tables

revision = "0001"
down_revision = None

_TABLES = r"""
CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    password_hash text NOT NULL,
    role text NOT NULL CONSTRAINT users_role_known CHECK (role IN ('PATIENT', 'DOCTOR', 'ADMIN')),
    status text NOT NULL,
    fullname text NOT NULL,
    time_zone text NOT NULL,
    locale text NOT NULL,
    phone text,
    speciality text,
    experience smallint CONSTRAINT users_experience_in_years CHECK (experience BETWEEN 0 AND 80),
    consultation_fee numeric(10, 2) CONSTRAINT users_fee_not_negative CHECK (consultation_fee >= 0),
    version integer NOT NULL CONSTRAINT users_version_positive CHECK (version > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT users_status_known
        CHECK (status IN ('ACTIVE', 'SUSPENDED') OR (status = 'PENDING' AND role = 'DOCTOR')),
    CONSTRAINT users_only_doctors_practise
        CHECK (role = 'DOCTOR' OR (speciality IS NULL AND experience IS NULL AND consultation_fee IS NULL))
);

CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT sessions_of_a_user REFERENCES users (id) ON DELETE CASCADE,
    successor_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);

CREATE TABLE refresh_tokens (
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL CONSTRAINT refresh_tokens_of_a_session REFERENCES sessions (id) ON DELETE CASCADE,
    token_hash bytea NOT NULL CONSTRAINT refresh_tokens_hash_unique UNIQUE,
    rotated_at timestamptz
);

CREATE UNIQUE INDEX users_email_unique ON users (lower(email));
CREATE INDEX users_doctors_not_listed ON users (status, lower(fullname), id)
    WHERE role = 'DOCTOR' AND status <> 'ACTIVE';
CREATE INDEX users_patients ON users (id) WHERE role = 'PATIENT';
CREATE INDEX users_doctors_by_name ON users (lower(fullname), id) WHERE role = 'DOCTOR' AND status = 'ACTIVE';
CREATE INDEX users_doctors_by_experience ON users (coalesce(-experience, 1), id)
    WHERE role = 'DOCTOR' AND status = 'ACTIVE';
CREATE INDEX users_doctors_by_fee ON users (coalesce(consultation_fee, 100000000), id)
    WHERE role = 'DOCTOR' AND status = 'ACTIVE';
CREATE INDEX users_doctors_by_speciality ON users (lower(speciality), lower(fullname), id)
    WHERE role = 'DOCTOR' AND status = 'ACTIVE';
CREATE INDEX users_search ON users USING gin ((fullname || E'\n' || coalesce(speciality, '')) gin_trgm_ops);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);
"""


def upgrade(application_role: str) -> None:
    run(_TABLES)
    create(*outbox_tables(MetaData()))
    admit(application_role)
    grant(application_role, "SELECT, INSERT, UPDATE", "users", "relay_state")
    grant(application_role, "SELECT, INSERT, UPDATE, DELETE", "sessions", "refresh_tokens", "outbox")
