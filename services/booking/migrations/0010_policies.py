"""Until when patients may cancel or move, and how many appointments with a doctor they may have ahead."""

from services.kit.postgres.migrations import run

revision = "0010"
down_revision = "0009"


def upgrade(application_role: str) -> None:
    # The default is for the release before, which writes schedules without them.
    run(
        """
        ALTER TABLE schedules
            ADD cancellation_cutoff_minutes integer NOT NULL DEFAULT 0
                CONSTRAINT schedules_cutoff CHECK (cancellation_cutoff_minutes >= 0),
            ADD open_appointments_per_patient integer
                CONSTRAINT schedules_open_appointments CHECK (open_appointments_per_patient > 0);
        """
    )
