"""An address counts when it is verified: until then it is pending, and the old one stays."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade(application_role: str) -> None:
    op.execute("ALTER TABLE users ADD COLUMN pending_email text")
    op.execute("ALTER TABLE users DROP CONSTRAINT users_erased_is_nobody")
    op.execute("""
        ALTER TABLE users ADD CONSTRAINT users_erased_is_nobody CHECK (
            erased_at IS NULL OR (status = 'SUSPENDED' AND email = id::text || '@erased.invalid'
            AND fullname = 'Erased user' AND password_hash = '!' AND email_verified_at IS NULL AND pending_email IS NULL
            AND phone IS NULL AND speciality IS NULL AND experience IS NULL AND consultation_fee IS NULL))
    """)
