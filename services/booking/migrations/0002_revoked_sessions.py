"""Sessions that ended before their access tokens expire."""

from alembic import op

from services.kit.postgres.migrations import grant

revision = "0002"
down_revision = "0001"


def upgrade(application_role: str) -> None:
    op.execute("""
        CREATE TABLE revoked_sessions (
            session_id uuid NOT NULL CONSTRAINT revoked_sessions_pkey PRIMARY KEY,
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX revoked_sessions_by_expiry ON revoked_sessions (expires_at)")
    grant(application_role, "SELECT, INSERT, DELETE", "revoked_sessions")
