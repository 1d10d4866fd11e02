"""The audit trail with the chain of hashes over it, and the one exception to a history that is written once."""

from alembic import op

revision = "0003"
down_revision = "0002"


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
    # Written once and never again: not even the service may change or remove what it wrote.
    role = op.get_bind().dialect.identifier_preparer.quote_identifier(application_role)
    op.execute(f"GRANT SELECT, INSERT ON audit_log, audit_seals TO {role}")
    # With its owner's rights, so that the service can forget what was typed and still not change what was done.
    op.execute("""
        CREATE FUNCTION forget_typed_texts(erased_patient uuid) RETURNS void
        LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
            UPDATE appointment_history SET
                before = before || jsonb_build_object('notes', NULL, 'cancellationReason', NULL),
                after = after || jsonb_build_object('notes', NULL, 'cancellationReason', NULL),
                reason = CASE WHEN actor_role = 'SYSTEM' THEN reason END
            WHERE appointment_id IN (SELECT id FROM appointments WHERE patient_id = erased_patient)
        $$
    """)
    op.execute("REVOKE ALL ON FUNCTION forget_typed_texts(uuid) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION forget_typed_texts(uuid) TO {role}")
