"""`python -m services.notification <command>`: each command reads its settings from the environment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from pymongo.errors import PyMongoError

from services.kit.command import audit as audit_cli
from services.kit.command import cli
from services.kit.errors import Unavailable
from services.kit.trail.expiry import expire
from services.kit.trail.verify import Verdict, verify
from services.notification.app import INDEXES, create
from services.notification.audit.repository import StoredChain
from services.notification.database_user import ensure_database_user
from services.notification.repository import Store
from services.notification.settings import DatabaseSettings, MigrationSettings, Settings

app = cli.typer_app("The notification service of the booking platform.")
_INDEX_SECONDS = 3600.0


@app.command()
def serve() -> None:
    """Serve until SIGTERM or SIGINT."""
    cli.serve(Settings, create)


@app.command()
def migrate() -> None:
    """Create the service's database user where MONGODB_MIGRATION_URL is set, and the indexes that are missing.

    An index on a large collection takes longer than a start should.
    """
    settings = cli.settings(MigrationSettings)
    try:
        if settings.mongodb_migration_url:
            ensure_database_user(settings.mongodb_migration_url, settings.mongodb_url)
        asyncio.run(_create_indexes(settings.mongodb_url))
    except ValueError:
        raise cli.failed(
            "MONGODB_URL has no user and password, or no database: MONGODB_MIGRATION_URL needs them"
        ) from None
    except (Unavailable, PyMongoError):
        raise cli.failed(
            "MongoDB does not answer in time or refuses the login: see MONGODB_URL and MONGODB_MIGRATION_URL", 1
        ) from None


@app.command()
def verify_audit(head: audit_cli.KnownHead = None) -> None:
    """Verify the audit trail's chain and print its head, which `--head` takes the next time."""
    url = cli.settings(DatabaseSettings).mongodb_url

    async def verified() -> Verdict:
        async with _opened(url) as store:
            return await verify(StoredChain(store), head)

    audit_cli.verify_audit(head, verified)


@app.command()
def expire_audit(export: audit_cli.ExportFolder) -> None:
    """Export the audit entries that are older than AUDIT_RETENTION_MONTHS to a file, and remove them."""
    settings = cli.settings(DatabaseSettings)

    async def expired(cutoff: datetime) -> tuple[Verdict, Path | None]:
        async with _opened(settings.mongodb_url) as store:
            return await expire(StoredChain(store), cutoff, export, "audit-notification")

    audit_cli.expire_audit(settings.audit_retention_months, expired)


async def _create_indexes(url: str) -> None:
    async with _opened(url) as store:
        await store.create_indexes(_INDEX_SECONDS)


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Store]:
    store = Store(url, INDEXES)
    try:
        yield store
    finally:
        store.close()
