"""Mails that auth requests, without their secrets, and when an address was verified."""

from alembic import op

from services.kit.postgres.migrations import grant

revision = "0003"
down_revision = "0002"


def upgrade(application_role: str) -> None:
    op.execute("ALTER TABLE users ADD COLUMN email_verified_at timestamptz")
    op.execute("""
        CREATE TABLE mails (
            id uuid PRIMARY KEY,
            user_id uuid NOT NULL CONSTRAINT mails_of_a_user REFERENCES users (id) ON DELETE CASCADE,
            kind text NOT NULL CONSTRAINT mails_kind_known CHECK (kind IN ('PASSWORD_RESET', 'VERIFY_EMAIL')),
            email text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            used_at timestamptz
        )
    """)
    op.execute("CREATE INDEX mails_by_user ON mails (user_id)")
    op.execute("CREATE INDEX mails_by_expiry ON mails (expires_at)")
    grant(application_role, "SELECT, INSERT, UPDATE, DELETE", "mails")
