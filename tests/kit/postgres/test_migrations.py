"""A service's migrations work with the roles and the database that an operator gives them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import copytree
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from services.auth.app import MIGRATIONS as AUTH
from services.booking.app import MIGRATIONS as BOOKING
from services.kit.postgres.migrations import migrate
from services.standalone.databases import DatabaseUrls, create_database, database_urls
from services.standalone.kept import KeptSecrets
from tests.support.databases import TEMPLATES_LOCK, ServerUrls
from tests.support.waiting import eventually, without_hang

DIRECTORIES = {"auth": AUTH, "booking": BOOKING}
LIMITS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")


@pytest.fixture
async def superuser(servers: ServerUrls) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(servers.postgres)
    yield connection
    await connection.close()


@pytest.fixture(params=DIRECTORIES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def urls(servers: ServerUrls, superuser: Any, service: str) -> DatabaseUrls:
    """The URLs of an empty database of the service, created as the platform creates it."""
    name, kept = f"{service}_migrations_{uuid4().hex}", KeptSecrets(Path(servers.kept))
    # All databases share the owner's role, and PostgreSQL refuses two concurrent changes of it.
    await superuser.execute("SELECT pg_advisory_lock($1)", TEMPLATES_LOCK)
    await create_database(superuser, kept, service, name)
    await superuser.execute("SELECT pg_advisory_unlock($1)", TEMPLATES_LOCK)
    return database_urls(servers.postgres, kept, service, name)


@pytest.fixture
async def role(superuser: Any, urls: DatabaseUrls) -> str:
    """The application's URL with a role of the superuser's, which the owner may not alter."""
    name = f"made_{uuid4().hex}"
    await superuser.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    return make_url(urls.application).set(username=name, password="secret").render_as_string(hide_password=False)


async def _limits(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    limits = [await connection.fetchval("SELECT current_setting($1)", name) for name in LIMITS]
    await connection.close()
    return limits


async def test_the_server_limits_the_applications_role(urls: DatabaseUrls, service: str) -> None:
    assert await migrate(DIRECTORIES[service], migration_url=urls.migration, application_url=urls.application)
    assert await migrate(DIRECTORIES[service], migration_url=urls.migration, application_url=urls.application) == []
    assert await _limits(urls.application) == ["500ms", "800ms", "5s"]


async def test_a_migration_gives_the_role_the_limits_of_this_release(
    superuser: Any, urls: DatabaseUrls, service: str
) -> None:
    await migrate(DIRECTORIES[service], migration_url=urls.migration, application_url=urls.application)
    database, role = make_url(urls.application).database, make_url(urls.application).username
    await superuser.execute(f"ALTER ROLE {role} IN DATABASE {database} SET statement_timeout = '1s'")
    await migrate(DIRECTORIES[service], migration_url=urls.migration, application_url=urls.application)
    assert await _limits(urls.application) == ["500ms", "800ms", "5s"]


async def test_one_role_may_be_owner_and_application(urls: DatabaseUrls, service: str) -> None:
    owner = urls.migration
    assert await migrate(DIRECTORIES[service], migration_url=owner, application_url=owner)
    assert await migrate(DIRECTORIES[service], migration_url=owner, application_url=owner) == []
    assert await _limits(owner) == ["0", "0", "0"]


async def test_the_application_may_use_a_role_that_the_owner_may_not_alter(
    urls: DatabaseUrls, role: str, service: str
) -> None:
    assert await migrate(DIRECTORIES[service], migration_url=urls.migration, application_url=role)
    assert await _limits(role) == ["0", "0", "0"]
    connection = await asyncpg.connect(role)
    assert await connection.fetchval("SELECT count(*) FROM users") == 0
    await connection.close()


async def test_the_limits_of_a_role_do_not_apply_to_its_migrations(
    superuser: Any, urls: DatabaseUrls, tmp_path: Path
) -> None:
    owner, database = make_url(urls.migration).username, make_url(urls.migration).database
    for name in LIMITS:
        await superuser.execute(f"ALTER ROLE {owner} IN DATABASE {database} SET {name} = '2s'")
    (tmp_path / "0001_slow.py").write_text(
        "import time\nfrom alembic import op\n\nrevision, down_revision = '0001', None\n\n\n"
        "def upgrade(application_role: str) -> None:\n    op.execute('SELECT pg_sleep(2.2)')\n    time.sleep(2.2)\n"
    )
    assert await migrate(tmp_path, migration_url=urls.migration, application_url=urls.migration) == ["0001"]


@pytest.mark.parametrize("upgraded", [False, True])
async def test_a_role_of_another_service_may_not_connect(
    superuser: Any, urls: DatabaseUrls, service: str, upgraded: bool
) -> None:
    await migrate(DIRECTORIES[service], migration_url=urls.migration, application_url=urls.application)
    if upgraded:  # the first revisions of earlier releases granted and revoked nothing
        database, role = make_url(urls.application).database, make_url(urls.application).username
        await superuser.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO PUBLIC")
        await superuser.execute(f"REVOKE CONNECT ON DATABASE {database} FROM {role}")
        await migrate(DIRECTORIES[service], migration_url=urls.migration, application_url=urls.application)
    stranger = f"stranger_{uuid4().hex}"
    await superuser.execute(f"CREATE ROLE {stranger} LOGIN PASSWORD 'secret'")
    url = make_url(urls.application).set(username=stranger, password="secret")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
        await asyncpg.connect(url.render_as_string(hide_password=False))
    connection = await asyncpg.connect(urls.application)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="temporary"):
        await connection.execute("CREATE TEMPORARY TABLE mine ()")
    await connection.close()


def _write_revision(folder: Path, name: str, after: str | None, statement: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(
        f"from alembic import op\n\nrevision, down_revision = {name!r}, {after!r}\n\n\n"
        f"def upgrade(application_role: str) -> None:\n    op.execute({statement!r})\n"
    )


def _copy_revisions(service: str, folder: Path) -> str:
    """Copy the service's revisions, and return the name of the newest."""
    copytree(DIRECTORIES[service], folder, dirs_exist_ok=True)
    return max(revision.stem[:4] for revision in folder.glob("*.py"))


async def _waits_for_a_lock(observer: Any, url: str) -> bool:
    waiting = "SELECT true FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'"
    return bool(await observer.fetchval(waiting, make_url(url).database))


async def test_a_migration_waits_for_a_concurrent_change_of_its_role(
    superuser: Any, urls: DatabaseUrls, service: str
) -> None:
    await migrate(DIRECTORIES[service], migration_url=urls.migration, application_url=urls.application)
    application, observer = make_url(urls.application), await asyncpg.connect(urls.migration)
    change = superuser.transaction()
    await change.start()
    await superuser.execute(f"ALTER ROLE {application.username} PASSWORD '{application.password}'")
    migrating = asyncio.create_task(
        migrate(DIRECTORIES[service], migration_url=urls.migration, application_url=urls.application)
    )
    await eventually(lambda: _waits_for_a_lock(observer, urls.migration))
    await change.commit()
    assert await migrating == []
    await observer.close()


async def test_statements_pass_a_migration_that_waits_for_an_open_transaction(
    superuser: Any, urls: DatabaseUrls, service: str, tmp_path: Path
) -> None:
    await migrate(DIRECTORIES[service], migration_url=urls.migration, application_url=urls.application)
    _write_revision(tmp_path, "9999", _copy_revisions(service, tmp_path), "ALTER TABLE users ADD COLUMN later text")
    reader, other = await asyncpg.connect(urls.migration), await asyncpg.connect(urls.migration)
    reading = reader.transaction()
    await reading.start()
    await reader.fetchval("SELECT count(*) FROM users")
    migrating = asyncio.create_task(migrate(tmp_path, migration_url=urls.migration, application_url=urls.application))
    await eventually(lambda: _waits_for_a_lock(superuser, urls.migration))
    async with without_hang():
        await other.fetchval("SELECT count(*) FROM users")
    assert not migrating.done()
    await reading.commit()
    assert await migrating == ["9999"]
    await reader.close()
    await other.close()


async def test_the_revisions_before_a_failing_one_stay_applied(urls: DatabaseUrls, tmp_path: Path) -> None:
    failing, mended = tmp_path / "failing", tmp_path / "mended"
    for folder, second in ((failing, "first"), (mended, "second")):
        _write_revision(folder, "0001", None, "CREATE TABLE first ()")
        _write_revision(folder, "0002", "0001", f"CREATE TABLE {second} ()")
    with pytest.raises(DBAPIError, match="already exists"):
        await migrate(failing, migration_url=urls.migration, application_url=urls.migration)
    assert await migrate(mended, migration_url=urls.migration, application_url=urls.migration) == ["0002"]
