"""Logins that ended before their time."""

from alembic import op

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
    role = op.get_bind().dialect.identifier_preparer.quote_identifier(application_role)
    op.execute(f"GRANT SELECT, INSERT, DELETE ON revoked_sessions TO {role}")
