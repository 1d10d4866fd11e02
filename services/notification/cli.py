"""`python -m services.notification <command>`: each command reads its settings from the environment."""

import asyncio

from services.kit.command import audit as audit_cli
from services.kit.command import cli
from services.kit.errors import Unavailable
from services.kit.trail.verify import Verdict
from services.notification.app import INDEXES, create
from services.notification.audit.repository import Chain
from services.notification.repository import Store
from services.notification.settings import DatabaseSettings, Settings

app = cli.typer_app("The notification service of the booking platform.")
_INDEX_SECONDS = 3600.0


@app.command()
def serve() -> None:
    """Serve until SIGTERM or SIGINT."""
    cli.serve(Settings, create)


@app.command()
def migrate() -> None:
    """Create the indexes that are missing, which on a large collection takes longer than a start should."""
    settings = cli.settings(DatabaseSettings)
    try:
        asyncio.run(_create_indexes(settings.mongodb_url))
    except Unavailable:
        raise cli.failed("MongoDB does not answer, does not let us in, or not in time: see MONGODB_URL", 1) from None


@app.command()
def verify_audit(head: audit_cli.KnownHead = None) -> None:
    """Check the audit trail's chain, and print its head: keep that, and give it back next time."""
    url = cli.settings(DatabaseSettings).mongodb_url

    async def verified() -> Verdict:
        store = Store(url, INDEXES)
        try:
            return await Chain(store).verify(head)
        finally:
            store.close()

    audit_cli.verify_audit(head, verified)


async def _create_indexes(url: str) -> None:
    store = Store(url, INDEXES)
    try:
        await store.create_indexes(_INDEX_SECONDS)
    finally:
        store.close()
