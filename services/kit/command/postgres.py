"""Commands of the services that keep their data in PostgreSQL."""

import asyncio
from pathlib import Path

from services.kit.command import audit, cli
from services.kit.metrics import create_registry
from services.kit.postgres import migrations
from services.kit.postgres.database import Database
from services.kit.trail.seals import verify
from services.kit.trail.verify import Verdict


def migrate(directory: Path, *, migration_url: str, application_url: str) -> None:
    """Bring the schema up to date, and print the names of the revisions that were applied."""
    work = migrations.migrate(directory, migration_url=migration_url, application_url=application_url)
    applied = asyncio.run(work)
    cli.out.print(f"applied: {', '.join(applied)}" if applied else "nothing to apply", markup=False)


def verify_audit(url: str, head: str | None) -> None:
    """Check the chain over the audit trail of the database at `url`."""

    async def verified() -> Verdict:
        database = Database(url, registry=create_registry(), max_connections=1)
        await database.open()
        try:
            return await verify(database, head)
        finally:
            await database.close()

    audit.verify_audit(head, verified)
