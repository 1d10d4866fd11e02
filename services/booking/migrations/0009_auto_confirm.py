"""Doctors whose patients' bookings are confirmed at once."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade(application_role: str) -> None:
    # The default is for the release before, which writes schedules without it.
    op.execute("ALTER TABLE schedules ADD auto_confirm boolean NOT NULL DEFAULT false")
