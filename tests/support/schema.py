"""Comparing the schema that migrations make with the one that the models describe."""

from pathlib import Path
from typing import Any

import asyncpg
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.kit.postgres.engine import async_engine
from services.standalone.databases import DatabaseUrls, create_database, database_urls
from services.standalone.kept import KeptSecrets
from tests.support.databases import TEMPLATES_LOCK, ServerUrls

# Alembic cannot compare expressions, so that PostgreSQL itself prints indexes and constraints.
_DEFINITIONS = """
    SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'
    UNION ALL
    SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid <> 'alembic_version'::regclass AND contype <> 'n'
"""


async def empty_database(servers: ServerUrls, service: str, name: str) -> DatabaseUrls:
    """Create a database without a schema."""
    kept = KeptSecrets(Path(servers.kept))
    superuser = await asyncpg.connect(servers.postgres)
    # All workers share the owner's role, and PostgreSQL refuses two ALTER ROLE at the same time.
    await superuser.execute("SELECT pg_advisory_lock($1)", TEMPLATES_LOCK)
    await create_database(superuser, kept, service, name)
    await superuser.close()
    return database_urls(servers.postgres, kept, service, name)


async def assert_same_schema(migrated_url: str, empty_url: str, metadata: sa.MetaData, extension: str) -> None:
    """Create the tables of `metadata` in the empty database, and compare both databases."""

    def differences(connection: sa.Connection) -> list[Any]:
        options = {"compare_server_default": True, "include_object": lambda _, __, kind, *___: kind != "index"}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    migrated, by_models = async_engine(migrated_url), async_engine(empty_url)
    async with by_models.begin() as connection:
        await connection.execute(sa.text(f"CREATE EXTENSION {extension}"))
        await connection.execute(sa.text("CREATE TABLE alembic_version ()"))
        await connection.run_sync(metadata.create_all)
        described = set(await connection.scalars(sa.text(_DEFINITIONS)))
    async with migrated.connect() as connection:
        assert set(await connection.scalars(sa.text(_DEFINITIONS))) == described
        assert await connection.run_sync(differences) == []
    for engine in (migrated, by_models):
        await engine.dispose()
