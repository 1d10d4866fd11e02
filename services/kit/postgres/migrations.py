"""Schema migrations: Alembic revisions that the owner's role applies one by one, while services use the tables.

The application's role has no DDL. `migrate` makes it when it is missing; each revision grants what the role may do.
"""

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from alembic import op
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable

from services.kit import postgres_url
from services.kit.errors import NotReady
from services.kit.postgres.database import Connection, Database
from services.kit.postgres.engine import async_engine
from services.kit.postgres.failures import sqlstate
from services.kit.postgres_url import PostgresUrl

T = TypeVar("T")
log = structlog.get_logger("migrations")

_LOCK = 7_203_411
# Shorter than the time that the application's statements have.
_LOCK_TIMEOUT = "300ms"
_LOCK_PAUSE_SECONDS = 1.0
_LOCK_ATTEMPTS = 300
_LOCK_NOT_AVAILABLE = "55P03"
# Below the client's limit of a second: the server then answers with an error, after which the connection is used again,
# and the client ends it only when the server is silent. Set on the role and not by the connection, because PgBouncer
# refuses start-up parameters.
_LIMITS = {"lock_timeout": "500ms", "statement_timeout": "800ms", "idle_in_transaction_session_timeout": "5s"}
_INSUFFICIENT_PRIVILEGE = "42501"
# An internal error (XX000), which has no SQLSTATE of its own.
_CONCURRENT_CHANGE = "tuple concurrently updated"


async def migrate(directory: Path, *, migration_url: str, application_url: str) -> list[str]:
    """Apply the revisions in `directory` that are missing, each in its own transaction, and return their names.

    It may run any number of times, and in several processes at once.
    """
    application = postgres_url.parse(application_url)
    role = application.user or ""
    engine = async_engine(migration_url, poolclass=NullPool)
    try:
        if application.user != postgres_url.parse(migration_url).user:
            await _transact(engine, _ensure_application_role, application)
        applied: list[str] = []
        while revision := await _transact(engine, _apply_next, directory, role):
            applied.append(revision)
        await _transact(engine, _confine, role)
        return applied
    finally:
        await engine.dispose()


async def _transact(engine: AsyncEngine, work: Callable[..., T], *arguments: Any) -> T:
    """Run `work` in a transaction, one process at a time, and again whenever another transaction is in its way.

    Behind a statement that waits to change a table, every statement on that table waits, too. Give up after
    `_LOCK_TIMEOUT`, therefore, and let them pass before the next attempt. Roles belong to the whole server, and no lock
    reaches beyond one database: PostgreSQL fails the second of two concurrent changes once the first is committed.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            async with engine.begin() as connection:
                for name in _LIMITS:  # where one role is owner and application, or the operator has set limits
                    await connection.execute(text("SELECT set_config(:name, '0', true)"), {"name": name})
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                await connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
                return await connection.run_sync(work, *arguments)
        except DBAPIError as error:
            is_in_the_way = sqlstate(error) == _LOCK_NOT_AVAILABLE or _CONCURRENT_CHANGE in str(error.orig)
            if not is_in_the_way or attempt == _LOCK_ATTEMPTS:
                raise
        log.warning("a migration could not get a lock and is repeated", attempt=attempt)
        await asyncio.sleep(_LOCK_PAUSE_SECONDS)


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


def create(*tables: sa.Table) -> None:
    """In a revision: create tables that the kit defines, as it defines them now, with their indexes.

    Tables that exist are left alone: when the kit adds or changes one, older revisions create the new shape at once,
    and the revision for databases that have the old shape must do nothing on the new.
    """
    for table in tables:
        op.execute(CreateTable(table, if_not_exists=True))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            op.execute(CreateIndex(index, if_not_exists=True))


def run(script: str) -> None:
    """In a revision: execute statements that are separated by `;`. asyncpg prepares one statement at a time."""
    for statement in filter(str.strip, script.split(";")):
        op.execute(statement)


def grant(role: str, privileges: str, *objects: str) -> None:
    """In a revision: grant the application's role `privileges` on tables, or on objects such as `FUNCTION f(uuid)`.

    A role that owns the objects has every privilege on them.
    """
    connection = op.get_bind()
    if role != connection.scalar(text("SELECT current_user")):
        quoted = connection.dialect.identifier_preparer.quote_identifier(role)
        op.execute(f"GRANT {privileges} ON {', '.join(objects)} TO {quoted}")


def admit(role: str) -> None:
    """In a service's first revision: let the application's role use the schema."""
    grant(role, "USAGE", "SCHEMA public")
    grant(role, "SELECT", "alembic_version")


def _confine(connection: sa.Connection, role: str) -> None:
    """Let the application's role connect, within its limits, and no role of another service.

    Each migration does it, because earlier releases left the database open and had other limits.
    """
    quote = connection.dialect.identifier_preparer.quote_identifier
    database = quote(str(connection.scalar(text("SELECT current_database()"))))
    if role:
        _where_allowed(connection, f"GRANT CONNECT ON DATABASE {database} TO {quote(role)}")
        if role != connection.scalar(text("SELECT current_user")):
            for name, value in _LIMITS.items():
                _where_allowed(connection, f"ALTER ROLE {quote(role)} IN DATABASE {database} SET {name} = '{value}'")
    _where_allowed(connection, f"REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC")
    _where_allowed(connection, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")


def _ensure_application_role(connection: sa.Connection, application: PostgresUrl) -> None:
    exists = connection.scalar(text("SELECT true FROM pg_roles WHERE rolname = :role"), {"role": application.user})
    verb = "ALTER" if exists else "CREATE"
    statement = connection.scalar(
        text(f"SELECT format('{verb} ROLE %I LOGIN PASSWORD %L', CAST(:role AS text), CAST(:password AS text))"),
        {"role": application.user, "password": application.password},
    )
    if exists:
        _where_allowed(connection, str(statement))
    else:
        connection.exec_driver_sql(str(statement))


def _where_allowed(connection: sa.Connection, statement: str) -> None:
    """Execute a statement, or leave things as the operator has set them when this role may not change them."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        if sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
            raise


def _apply_next(connection: sa.Connection, directory: Path, application_role: str) -> str | None:
    """Apply the first revision that is missing, and return its name."""
    script = _script(directory)
    applied: list[str] = []

    def missing(current: Any, _: MigrationContext) -> list[Any]:
        if set(current) - {revision.revision for revision in script.walk_revisions()}:
            return []  # after a rollback: the schema is newer than this code, which works on it as it is
        steps = script._upgrade_revs("head", current)[:1]
        applied.extend(step.revision.revision for step in steps)
        return steps

    with EnvironmentContext(Config(), script, fn=missing) as environment:
        environment.configure(connection=connection, transactional_ddl=True, transaction_per_migration=False)
        environment.run_migrations(application_role=application_role)
    return applied[0] if applied else None


@cache
def _script(directory: Path) -> ScriptDirectory:
    return ScriptDirectory(str(directory), version_locations=[str(directory)])
