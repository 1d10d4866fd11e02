"""The audit trail with its chain of hashes, and the one function that may change the history: it erases typed texts."""

from alembic import op
from sqlalchemy import MetaData

from services.kit.postgres.migrations import create, grant
from services.kit.trail.tables import audit_tables

revision = "0003"
down_revision = "0002"


def upgrade(application_role: str) -> None:
    create(*audit_tables(MetaData()))
    # The service may insert and read entries, but not change or delete them.
    grant(application_role, "SELECT, INSERT", "audit_log", "audit_seals")
    # It runs with its owner's rights, so that the service can erase what users typed but not change what they did.
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
    grant(application_role, "EXECUTE", "FUNCTION forget_typed_texts(uuid)")
