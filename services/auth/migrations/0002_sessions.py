"""What their owner is shown of a session."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade(application_role: str) -> None:
    # The role's grants on the table cover its new columns.
    op.execute(
        "ALTER TABLE sessions ADD COLUMN last_used_at timestamptz NOT NULL DEFAULT now(), ADD COLUMN user_agent text"
    )
