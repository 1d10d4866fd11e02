"""The audit trail with the chain of hashes over it, and accounts that were erased."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade(application_role: str) -> None:
    op.execute("""
        CREATE TABLE audit_log (
            seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY CONSTRAINT audit_log_pkey PRIMARY KEY,
            at timestamptz NOT NULL DEFAULT clock_timestamp(),
            action text NOT NULL,
            result text NOT NULL,
            code text,
            actor_id uuid,
            actor_role text,
            session_id uuid,
            target_type text NOT NULL,
            target_id uuid,
            address text,
            request_id text,
            CONSTRAINT audit_log_result_known CHECK (result IN ('SUCCEEDED', 'REFUSED')),
            CONSTRAINT audit_log_refusal_has_code CHECK ((result = 'REFUSED') = (code IS NOT NULL))
        )
    """)
    op.execute("CREATE INDEX audit_log_by_actor ON audit_log (actor_id, seq) WHERE actor_id IS NOT NULL")
    op.execute("CREATE INDEX audit_log_by_target ON audit_log (target_id, seq) WHERE target_id IS NOT NULL")
    op.execute("CREATE INDEX audit_log_by_action ON audit_log (action, seq)")
    op.execute("CREATE INDEX audit_log_by_time ON audit_log USING brin (at)")
    op.execute("""
        CREATE TABLE audit_seals (
            position bigint NOT NULL CONSTRAINT audit_seals_pkey PRIMARY KEY,
            seq bigint NOT NULL CONSTRAINT audit_seals_once UNIQUE,
            hash bytea NOT NULL CONSTRAINT audit_seals_sha256 CHECK (octet_length(hash) = 32),
            sealed_at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
    """)
    op.execute("ALTER TABLE users ADD COLUMN erased_at timestamptz")
    op.execute("""
        ALTER TABLE users ADD CONSTRAINT users_erased_is_nobody CHECK (
            erased_at IS NULL OR (status = 'SUSPENDED' AND email = id::text || '@erased.invalid'
            AND fullname = 'Erased user' AND password_hash = '!' AND email_verified_at IS NULL
            AND phone IS NULL AND speciality IS NULL AND experience IS NULL AND consultation_fee IS NULL))
    """)
    # Written once and never again: not even the service may change or remove what it wrote.
    role = op.get_bind().dialect.identifier_preparer.quote_identifier(application_role)
    op.execute(f"GRANT SELECT, INSERT ON audit_log, audit_seals TO {role}")
