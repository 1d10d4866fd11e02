"""`python -m services.booking <command>`: each command reads its settings from the environment."""

import asyncio

import typer
from prometheus_client import CollectorRegistry

from services.booking.app import MIGRATIONS, create
from services.booking.appointments.repository import AppointmentRepository
from services.booking.appointments.time_zones import Recheck, TimeZoneRecheck
from services.booking.errors import CONSTRAINTS
from services.booking.settings import DatabaseSettings, MigrationSettings, Settings
from services.kit import cli
from services.kit.database import Database

app = cli.typer_app("The booking service of the booking platform.")


@app.command()
def serve() -> None:
    """Serve until SIGTERM or SIGINT."""
    cli.serve(Settings, create)


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date, as its owner's role."""
    settings = cli.settings(MigrationSettings)
    cli.migrate(
        MIGRATIONS,
        migration_url=settings.booking_migration_database_url,
        application_url=settings.booking_database_url,
    )


@app.command()
def recheck_time_zones() -> None:
    """Apply an update of the time zones: visits to come keep their wall time, and move where its instant is another.

    Prints what moved and what could not; ends with 1 when something could not, for a person to look at.
    """
    found = asyncio.run(_recheck_time_zones(cli.settings(DatabaseSettings).booking_database_url))
    for visit in found:
        to = "no such time any more" if visit.to is None else visit.to.isoformat()
        cli.out.print(f"{visit.outcome} {visit.appointment_id}: {visit.starts_at.isoformat()} -> {to}", markup=False)
    moved = sum(visit.outcome == "moved" for visit in found)
    cli.out.print(f"moved: {moved}, could not be moved: {len(found) - moved}", markup=False)
    if moved < len(found):
        raise typer.Exit(1)


async def _recheck_time_zones(url: str) -> list[Recheck]:
    database = Database(url, registry=CollectorRegistry(), constraints=CONSTRAINTS, max_connections=1)
    await database.open()
    try:
        return await TimeZoneRecheck(database, AppointmentRepository(database)).run()
    finally:
        await database.close()
