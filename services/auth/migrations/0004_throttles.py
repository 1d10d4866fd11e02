"""Counts of attempts, such as failed logins, and when the next one is allowed."""

from alembic import op

from services.kit.postgres.migrations import grant

revision = "0004"
down_revision = "0003"


def upgrade(application_role: str) -> None:
    op.execute("""
        CREATE TABLE throttles (
            scope text NOT NULL,
            subject bytea NOT NULL,
            count integer NOT NULL CONSTRAINT throttles_count_positive CHECK (count > 0),
            blocked_until timestamptz NOT NULL,
            CONSTRAINT throttles_pkey PRIMARY KEY (scope, subject)
        )
    """)
    op.execute("CREATE INDEX throttles_by_age ON throttles (blocked_until)")
    grant(application_role, "SELECT, INSERT, UPDATE, DELETE", "throttles")
