"""`python -m services.booking <command>`: each command reads its settings from the environment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

import typer
from prometheus_client import CollectorRegistry

from services.booking.app import MIGRATIONS, create
from services.booking.appointments.time_zones import Recheck, TimeZoneRecheck
from services.booking.consumers import UserConsumer
from services.booking.dead_letters.repository import DeadLetterRepository, KeptDeadLetter
from services.booking.errors import CONSTRAINTS
from services.booking.settings import DatabaseSettings, MigrationSettings, Settings
from services.contracts.events import decode_user_event
from services.kit.command import audit as audit_cli
from services.kit.command import cli, postgres
from services.kit.postgres.database import Database
from services.kit.streams.events import decode_entry
from services.kit.trail.entry import entry
from services.kit.trail.tables import AuditTrail

app = cli.typer_app("The booking service of the booking platform.")


@app.command()
def serve() -> None:
    """Serve until SIGTERM or SIGINT."""
    cli.serve(Settings, create)


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date, as its owner's role."""
    settings = cli.settings(MigrationSettings)
    postgres.migrate(
        MIGRATIONS,
        migration_url=settings.booking_migration_database_url,
        application_url=settings.booking_database_url,
    )


@app.command()
def verify_audit(head: audit_cli.KnownHead = None) -> None:
    """Compute the audit trail's chain anew; ends with 1 and the first broken link where it was tampered with."""
    url = cli.settings(DatabaseSettings).booking_database_url
    postgres.verify_audit(url, head)


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
    async with _opened(url) as database:
        return await TimeZoneRecheck(database).run()


@app.command()
def dead_letters() -> None:
    """List the events that could not be handled, the oldest first."""
    for letter in asyncio.run(_dead_letters(cli.settings(DatabaseSettings).booking_database_url)):
        what = f"{letter.stream} {letter.entry_id} {letter.fields.get('type', '')}"
        cli.out.print(f"{letter.id} {letter.created_at:%Y-%m-%dT%H:%M:%SZ} {what}: {letter.error}", markup=False)


async def _dead_letters(url: str) -> list[KeptDeadLetter]:
    async with _opened(url) as database:
        return await DeadLetterRepository(database).list()


@app.command()
def replay(
    ids: Annotated[list[UUID] | None, typer.Argument(help="Of dead letters; all of them without one")] = None,
) -> None:
    """Handle dead letters once more. Those that succeed are gone; ends with 1 when one fails again, or is not there."""
    url = cli.settings(DatabaseSettings).booking_database_url
    replayed, failures = asyncio.run(_replay(url, set(ids or ())))
    for id, failure in failures.items():
        cli.out.print(f"{id} failed again: {failure}", markup=False)
    cli.out.print(f"replayed: {replayed}, failed again: {len(failures)}", markup=False)
    if failures:
        raise typer.Exit(1)


async def _replay(url: str, wanted: set[UUID]) -> tuple[int, dict[UUID, str]]:
    replayed = 0
    async with _opened(url) as database:
        letters, trail = DeadLetterRepository(database), AuditTrail(database)
        consumer = UserConsumer(database)
        kept = {letter.id: letter for letter in await letters.list()}
        failures = dict.fromkeys(wanted - kept.keys(), "there is no such dead letter")
        for id, letter in kept.items():
            if wanted and id not in wanted:
                continue
            await trail.add(entry("dead_letter.replayed", target_type="dead letter", target_id=id))
            if letter.reason == "forged":
                failures[id] = "nobody knows who wrote it"
                continue
            try:
                await consumer.handle(decode_entry(letter.entry_id, letter.fields, decode_user_event))
            except Exception as error:
                failures[id] = f"{type(error).__name__}: {error}"
            else:
                await letters.remove(id)
                replayed += 1
    return replayed, failures


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Database]:
    database = Database(url, registry=CollectorRegistry(), constraints=CONSTRAINTS, max_connections=1)
    await database.open()
    try:
        yield database
    finally:
        await database.close()
