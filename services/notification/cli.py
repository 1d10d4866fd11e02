"""`python -m services.notification <command>`: each command reads its settings from the environment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from pymongo.errors import PyMongoError

from services.kit.command import audit as audit_cli
from services.kit.command import cli
from services.kit.trail.expiry import expire
from services.kit.trail.verify import Verdict, verify
from services.notification import indexes
from services.notification.app import create
from services.notification.audit.repository import StoredChain
from services.notification.database_user import ensure_database_user
from services.notification.repository import Store
from services.notification.settings import DatabaseSettings, MigrationSettings, Settings

app = cli.typer_app("The notification service of the booking platform.")


@app.command()
def serve() -> None:
    """Serve until SIGTERM or SIGINT."""
    cli.serve(Settings, create)


@app.command()
def migrate() -> None:
    """Create the service's database user where MONGODB_MIGRATION_URL is set, and make missing and changed indexes.

    It takes as long as the collections are large, and nothing bounds it.
    """
    settings = cli.settings(MigrationSettings)
    try:
        if settings.mongodb_migration_url:
            ensure_database_user(settings.mongodb_migration_url, settings.mongodb_url)
        made = indexes.migrate(settings.mongodb_url)
    except ValueError:
        raise cli.failed(
            "MONGODB_URL has no user and password, or no database: MONGODB_MIGRATION_URL needs them"
        ) from None
    except indexes.Refused as error:
        raise cli.failed(str(error), 1) from None
    except PyMongoError:
        raise cli.failed(
            "MongoDB does not answer or refuses the login: see MONGODB_URL and MONGODB_MIGRATION_URL", 1
        ) from None
    cli.out.print(f"made: {', '.join(made)}" if made else "nothing to make", markup=False)


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


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Store]:
    store = Store(url, indexes.INDEXES)
    try:
        yield store
    finally:
        store.close()
