"""The audit trail with its chain of hashes, and erased accounts."""

from alembic import op
from sqlalchemy import MetaData

from services.kit.postgres.migrations import create, grant
from services.kit.trail.tables import audit_tables

revision = "0006"
down_revision = "0005"


def upgrade(application_role: str) -> None:
    create(*audit_tables(MetaData()))
    op.execute("ALTER TABLE users ADD COLUMN erased_at timestamptz")
    op.execute("""
        ALTER TABLE users ADD CONSTRAINT users_erased_is_nobody CHECK (
            erased_at IS NULL OR (status = 'SUSPENDED' AND email = id::text || '@erased.invalid'
            AND fullname = 'Erased user' AND password_hash = '!' AND email_verified_at IS NULL
            AND phone IS NULL AND speciality IS NULL AND experience IS NULL AND consultation_fee IS NULL))
    """)
    # The service may insert and read entries, but not change or delete them.
    grant(application_role, "SELECT, INSERT", "audit_log", "audit_seals")
