"""Commands of the services that keep their data in PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from services.kit.command import audit, cli
from services.kit.metrics import create_registry
from services.kit.postgres import migrations
from services.kit.postgres.database import Database
from services.kit.postgres.failures import Constraints
from services.kit.trail.expiry import expire
from services.kit.trail.seals import StoredChain
from services.kit.trail.verify import verify

T = TypeVar("T")


def migrate(directory: Path, *, migration_url: str, application_url: str) -> None:
    """Bring the schema up to date, and print the names of the revisions that were applied."""
    work = migrations.migrate(directory, migration_url=migration_url, application_url=application_url)
    applied = asyncio.run(work)
    cli.out.print(f"applied: {', '.join(applied)}" if applied else "nothing to apply", markup=False)


def verify_audit(url: str, head: str | None) -> None:
    """Verify the chain over the audit trail of the database at `url`."""
    audit.verify_audit(head, lambda: with_database(url, lambda database: verify(StoredChain(database), head)))


def expire_audit(service: str, migration_url: str, months: int, folder: Path) -> None:
    """Export and remove the expired entries of the service's audit trail, as the role that owns it."""
    audit.expire_audit(
        months,
        lambda cutoff: with_database(
            migration_url, lambda database: expire(StoredChain(database), cutoff, folder, f"audit-{service}")
        ),
    )


async def with_database(
    url: str, work: Callable[[Database], Awaitable[T]], constraints: Constraints | None = None
) -> T:
    """Return what `work` does with a database of one connection."""
    database = Database(url, registry=create_registry(), constraints=constraints, max_connections=1)
    await database.open()
    try:
        return await work(database)
    finally:
        await database.close()
