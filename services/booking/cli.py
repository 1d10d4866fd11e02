"""`python -m services.booking <command>`: each command reads its settings from the environment."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar
from uuid import UUID

import typer

from services.booking.app import MIGRATIONS, create
from services.booking.appointments.time_zones import TimeZoneRecheck
from services.booking.consumers import UserConsumer
from services.booking.dead_letters.repository import DeadLetterRepository
from services.booking.errors import CONSTRAINTS
from services.booking.settings import DatabaseSettings, MigrationSettings, Settings
from services.contracts.events import decode_user_event
from services.kit.command import audit as audit_cli
from services.kit.command import cli, postgres
from services.kit.postgres.database import Database
from services.kit.streams.events import decode_entry
from services.kit.trail.entry import entry
from services.kit.trail.tables import AuditTrail

T = TypeVar("T")
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
    """Compute the audit trail's chain anew; exit with 1 and the first broken link if it was tampered with."""
    postgres.verify_audit(cli.settings(DatabaseSettings).booking_database_url, head)


@app.command()
def expire_audit(export: audit_cli.ExportFolder) -> None:
    """Export the audit entries that are older than AUDIT_RETENTION_MONTHS to a file, and remove them."""
    settings = cli.settings(MigrationSettings)
    postgres.expire_audit("booking", settings.booking_migration_database_url, settings.audit_retention_months, export)


@app.command()
def recheck_time_zones() -> None:
    """Apply an update of the time zones: upcoming appointments keep their wall time, and move if its instant changed.

    Prints what moved and what could not; exits with 1 if something could not, for an operator to look at.
    """
    found = _on_database(lambda database: TimeZoneRecheck(database).run())
    for recheck in found:
        to = "this time no longer exists" if recheck.to is None else recheck.to.isoformat()
        _print(f"{recheck.outcome} {recheck.appointment_id}: {recheck.starts_at.isoformat()} -> {to}")
    moved = sum(recheck.outcome == "moved" for recheck in found)
    _print(f"moved: {moved}, could not be moved: {len(found) - moved}")
    if moved < len(found):
        raise typer.Exit(1)


@app.command()
def dead_letters() -> None:
    """List the events that could not be handled, oldest first."""
    for letter in _on_database(lambda database: DeadLetterRepository(database).list()):
        event = f"{letter.stream} {letter.entry_id} {letter.fields.get('type', '')}"
        _print(f"{letter.id} {letter.created_at:%Y-%m-%dT%H:%M:%SZ} {event}: {letter.error}")


@app.command()
def replay(
    ids: Annotated[list[UUID] | None, typer.Argument(help="Ids of dead letters; all of them if there is none")] = None,
) -> None:
    """Handle dead letters again and delete those that succeed; exit with 1 if one fails again or does not exist."""
    replayed, failures = _on_database(lambda database: _replay(database, set(ids or ())))
    for id, failure in failures.items():
        _print(f"{id} failed again: {failure}")
    _print(f"replayed: {replayed}, failed again: {len(failures)}")
    if failures:
        raise typer.Exit(1)


async def _replay(database: Database, wanted: set[UUID]) -> tuple[int, dict[UUID, str]]:
    repository, trail, consumer = (
        DeadLetterRepository(database),
        AuditTrail(database),
        UserConsumer(database),
    )
    letters = {letter.id: letter for letter in await repository.list()}
    failures = dict.fromkeys(wanted - letters.keys(), "no such dead letter")
    replayed = 0
    for letter in letters.values():
        if wanted and letter.id not in wanted:
            continue
        await trail.add(entry("dead_letter.replayed", target_type="dead letter", target_id=letter.id))
        if letter.reason == "forged":
            failures[letter.id] = "its signature does not show that auth wrote it"
            continue
        try:
            await consumer.handle(decode_entry(letter.entry_id, letter.fields, decode_user_event))
        except Exception as error:
            failures[letter.id] = f"{type(error).__name__}: {error}"
        else:
            await repository.remove(letter.id)
            replayed += 1
    return replayed, failures


def _on_database(work: Callable[[Database], Awaitable[T]]) -> T:
    url = cli.settings(DatabaseSettings).booking_database_url
    return asyncio.run(postgres.with_database(url, work, CONSTRAINTS))


def _print(line: str) -> None:
    cli.out.print(line, markup=False)
