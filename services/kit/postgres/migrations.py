"""Schema migrations: Alembic revisions applied in one transaction by the owner's role, under a lock.

The application's role has no DDL: it is made here when it is missing, and each revision grants what it may do.
"""

from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import make_url, text
from sqlalchemy.pool import NullPool

from services.kit.errors import NotReady
from services.kit.postgres.database import Connection, Database
from services.kit.postgres.engine import async_engine

_LOCK = 7_203_411


@cache
def _script(directory: Path) -> ScriptDirectory:
    return ScriptDirectory(str(directory), version_locations=[str(directory)])


async def migrate(directory: Path, *, migration_url: str, application_url: str) -> list[str]:
    """Apply what is missing of `directory`'s revisions; gives the names of those applied.

    All or nothing: a failing revision leaves the schema as it was. Run it any number of times, also at once.
    """
    engine = async_engine(migration_url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.run_sync(_ensure_application_role, migration_url, application_url)
            return await connection.run_sync(_upgrade, directory, make_url(application_url).username or "")
    finally:
        await engine.dispose()


def _ensure_application_role(connection: sa.Connection, migration_url: str, application_url: str) -> None:
    application = make_url(application_url)
    if application.username == make_url(migration_url).username:
        return  # one role for both: its owner's choice on a server where no roles can be made
    exists = connection.scalar(text("SELECT true FROM pg_roles WHERE rolname = :role"), {"role": application.username})
    verb = "ALTER" if exists else "CREATE"
    if exists and not connection.scalar(
        text("SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user")
    ):
        return  # made by whoever runs the server
    statement = connection.scalar(
        text(f"SELECT format('{verb} ROLE %I LOGIN PASSWORD %L', CAST(:role AS text), CAST(:password AS text))"),
        {"role": application.username, "password": application.password},
    )
    connection.exec_driver_sql(str(statement))


def _upgrade(connection: sa.Connection, directory: Path, application_role: str) -> list[str]:
    script = _script(directory)
    applied: list[str] = []

    def revisions(current: Any, _: MigrationContext) -> list[Any]:
        if set(current) - {revision.revision for revision in script.walk_revisions()}:
            return []  # a schema newer than this code, which a rollback brings back: it works on it as it is
        steps = script._upgrade_revs("head", current)
        applied.extend(str(step) for step in steps)
        return steps

    with EnvironmentContext(Config(), script, fn=revisions, application_role=application_role) as environment:
        environment.configure(
            connection=connection,
            transactional_ddl=True,
            transaction_per_migration=False,
            application_role=application_role,
        )
        environment.run_migrations(application_role=application_role)
    return applied


async def check_schema(database: Database, directory: Path) -> None:
    """A readiness check: transactions succeed, and the schema is at the newest revision of this code or a later one.

    Migrations run before the new code and old code keeps running beside them, so an unknown revision is a later one.
    """

    async def revision(connection: Connection) -> str | None:
        if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return None
        present: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return present

    present = await database.transact(revision)
    if present is None:
        raise NotReady("there is no schema yet")
    script = _script(directory)
    known = {revision.revision for revision in script.walk_revisions()}
    if present in known and present != script.get_current_head():
        raise NotReady("the schema is older than this code")
