"""Migrated databases in the servers that a whole run shares."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from services.kit.postgres.migrations import migrate
from services.standalone.databases import DatabaseUrls, create_database, database_urls
from services.standalone.kept import KeptSecrets

TEMPLATES_LOCK = 1
_SERVICES = Path(__file__).parents[2] / "services"

CloneDatabase = Callable[[str, str], Awaitable[DatabaseUrls]]


@dataclass(frozen=True)
class ServerUrls:
    """The addresses of the run's servers. `kept` is the file that holds their passwords."""

    postgres: str
    redis: str
    mongodb: str
    kept: str


async def clone(servers: ServerUrls, service: str, database: str) -> DatabaseUrls:
    """Create `database` with the schema of `service`."""
    connection = await asyncpg.connect(servers.postgres)
    try:
        # One xdist worker at a time: the first one migrates the template, and PostgreSQL copies a template only while
        # nobody is connected to it.
        await connection.execute("SELECT pg_advisory_lock($1)", TEMPLATES_LOCK)
        kept = KeptSecrets(Path(servers.kept))
        template = await _template(connection, servers, kept, service)
        await connection.execute(f"CREATE DATABASE {database} TEMPLATE {template} OWNER {service}_owner")
    finally:
        await connection.close()
    return database_urls(servers.postgres, kept, service, database)


async def _template(connection: asyncpg.Connection, servers: ServerUrls, kept: KeptSecrets, service: str) -> str:
    template, draft = f"{service}_template", f"{service}_draft"
    if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", template):
        await create_database(connection, kept, service, draft)
        urls = database_urls(servers.postgres, kept, service, draft)
        await migrate(
            _SERVICES / service / "migrations", migration_url=urls.migration, application_url=urls.application
        )
        # Renamed only when complete: after a failed migration the next worker fails with the same error.
        await connection.execute(f"ALTER DATABASE {draft} RENAME TO {template}")
    return template
