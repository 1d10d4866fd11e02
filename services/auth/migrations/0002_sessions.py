"""What users see of their own sessions: the time of the last use, and the user agent."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade(application_role: str) -> None:
    # The grants on the table include its new columns.
    op.execute(
        "ALTER TABLE sessions ADD COLUMN last_used_at timestamptz NOT NULL DEFAULT now(), ADD COLUMN user_agent text"
    )
