"""Accounts, their sessions, and the outbox; what the application's role may do."""

from alembic import op
from sqlalchemy import text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    """
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
    )
    """,
    """
    CREATE TABLE sessions (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL CONSTRAINT sessions_of_a_user REFERENCES users (id) ON DELETE CASCADE,
        successor_key bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        revoked_at timestamptz
    )
    """,
    """
    CREATE TABLE refresh_tokens (
        id uuid PRIMARY KEY,
        session_id uuid NOT NULL CONSTRAINT refresh_tokens_of_a_session REFERENCES sessions (id) ON DELETE CASCADE,
        token_hash bytea NOT NULL CONSTRAINT refresh_tokens_hash_unique UNIQUE,
        rotated_at timestamptz
    )
    """,
    """
    CREATE TABLE outbox (
        id uuid CONSTRAINT outbox_pkey PRIMARY KEY,
        seq bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT outbox_seq_unique UNIQUE,
        aggregatetype text NOT NULL,
        aggregateid text NOT NULL,
        type text NOT NULL,
        version integer NOT NULL,
        payload jsonb NOT NULL,
        traceparent text,
        request_id text,
        created_at timestamptz NOT NULL DEFAULT now(),
        stream_seq bigint CONSTRAINT outbox_stream_seq_unique UNIQUE
    )
    """,
    """
    CREATE TABLE relay_state (
        stream text CONSTRAINT relay_state_pkey PRIMARY KEY,
        acked_through bigint NOT NULL DEFAULT 0
    )
    """,
)

_LISTED = "WHERE role = 'DOCTOR' AND status = 'ACTIVE'"
_INDEXES = (
    "CREATE UNIQUE INDEX users_email_unique ON users (lower(email))",
    "CREATE INDEX users_doctors_not_listed ON users (status, lower(fullname), id) "
    "WHERE role = 'DOCTOR' AND status <> 'ACTIVE'",
    "CREATE INDEX users_patients ON users (id) WHERE role = 'PATIENT'",
    f"CREATE INDEX users_doctors_by_name ON users (lower(fullname), id) {_LISTED}",
    f"CREATE INDEX users_doctors_by_experience ON users (coalesce(-experience, 1), id) {_LISTED}",
    f"CREATE INDEX users_doctors_by_fee ON users (coalesce(consultation_fee, 100000000), id) {_LISTED}",
    f"CREATE INDEX users_doctors_by_speciality ON users (lower(speciality), lower(fullname), id) {_LISTED}",
    r"CREATE INDEX users_search ON users USING gin ((fullname || E'\n' || coalesce(speciality, '')) gin_trgm_ops)",
    "CREATE INDEX sessions_by_user ON sessions (user_id)",
    "CREATE INDEX sessions_by_expiry ON sessions (expires_at)",
    "CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id)",
    "CREATE INDEX outbox_unpublished ON outbox (seq) WHERE stream_seq IS NULL",
)

_GRANTS = (
    "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT SELECT ON alembic_version TO {role}",
    "GRANT SELECT, INSERT, UPDATE ON users TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON sessions, refresh_tokens, outbox TO {role}",
    "GRANT SELECT, INSERT, UPDATE ON relay_state TO {role}",
)

# By role and not in start-up parameters, which a connection pooler refuses.
_LIMITS = {"lock_timeout": "800ms", "statement_timeout": "1s", "idle_in_transaction_session_timeout": "5s"}


def upgrade(application_role: str) -> None:
    connection = op.get_bind()
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for statement in (*_TABLES, *_INDEXES):
        op.execute(statement)
    names = text("SELECT quote_ident(:role), quote_ident(current_database()), :role = current_user")
    role, database, is_owner = connection.execute(names, {"role": application_role}).one()
    if is_owner:
        return  # one role for both: it may do everything, and the limits would hold for migrations too
    for grant in _GRANTS:
        op.execute(grant.format(role=role))
    for name, value in _LIMITS.items():
        # A role that is not ours to alter keeps what its maker set.
        op.execute(
            f"DO $$ BEGIN ALTER ROLE {role} IN DATABASE {database} SET {name} = '{value}'; "
            "EXCEPTION WHEN insufficient_privilege THEN NULL; END $$"
        )


def downgrade(application_role: str) -> None:
    raise NotImplementedError("restore the backup: going back would drop every account")
