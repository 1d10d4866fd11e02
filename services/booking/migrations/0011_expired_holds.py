"""The clean-up finds the holds that have expired."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade(application_role: str) -> None:
    # Appointments have no expiry, so that no booking maintains this index.
    op.execute(
        "CREATE INDEX appointments_by_hold_expiry ON appointments (hold_expires_at) WHERE hold_expires_at IS NOT NULL"
    )
