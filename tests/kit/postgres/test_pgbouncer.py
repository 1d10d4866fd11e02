"""The kit behind a PgBouncer in transaction mode, which has fewer connections to the server than clients."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy import text

from services.auth.app import MIGRATIONS as AUTH
from services.booking.app import MIGRATIONS as BOOKING
from services.kit.errors import Unavailable
from services.kit.postgres.connector import Connector
from services.kit.postgres.database import Database, Statement
from services.kit.postgres.engine import async_engine
from services.kit.postgres.migrations import migrate
from services.standalone.databases import DatabaseUrls, create_database, database_urls
from services.standalone.kept import KeptSecrets
from tests.kit.postgres.databases import opened
from tests.kit.postgres.relaying import published, relay_of
from tests.support.databases import TEMPLATES_LOCK, ServerUrls
from tests.support.pgbouncer import EXECUTABLE, PgBouncer
from tests.support.store import Store
from tests.support.waiting import eventually, running, without_hang

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="PgBouncer is not installed")

_PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"
# Of a type that asyncpg has to ask the server about.
_RANGE = Statement(
    sa.text("SELECT int4multirange(int4range(1, :last)) AS found").bindparams(sa.bindparam("last", 0, sa.Integer))
)


@pytest.fixture
def bouncer(seats_url: str, tmp_path: Path) -> Iterator[PgBouncer]:
    with PgBouncer.to(tmp_path, seats_url) as bouncer:
        yield bouncer


@pytest.fixture
async def databases(bouncer: PgBouncer, seats_url: str) -> AsyncIterator[list[Database]]:
    """As of three replicas, each with more connections than PgBouncer has."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(opened(bouncer.through(seats_url), connections=4)) for _ in range(3)]


async def test_statements_are_named_and_kept_on_a_direct_connection_only(bouncer: PgBouncer, seats_url: str) -> None:
    for url, is_pooled in ((seats_url, False), (bouncer.through(seats_url), True)):
        connector = Connector(url)
        connection = await connector.connect()
        for _ in range(3):
            assert await connection.fetchval("SELECT $1::int", 1) == 1
        assert connector.is_pooled is is_pooled
        assert bool(await connection.fetchval(_PREPARED)) is not is_pooled
        await connection.close()


@pytest.mark.parametrize("is_pooled", [False, True])
async def test_sqlalchemy_keeps_statements_on_a_direct_connection_only(
    bouncer: PgBouncer, seats_url: str, is_pooled: bool
) -> None:
    engine = async_engine(bouncer.through(seats_url) if is_pooled else seats_url, pool_size=2, max_overflow=0)
    for value in range(3):
        async with engine.begin() as connection:
            assert await connection.scalar(text("SELECT CAST(:value AS int)"), {"value": value}) == value
    async with engine.begin() as connection:
        assert bool(await connection.scalar(text(_PREPARED))) is not is_pooled
    await engine.dispose()


async def test_clients_that_share_connections_read_and_write(databases: list[Database], number: int) -> None:
    async def work(connection: Any, seat: int) -> int:
        await connection.execute("INSERT INTO seats (number) VALUES ($1)", seat)
        found: int = await connection.fetchval("SELECT number FROM seats WHERE number = $1", seat)
        return found

    async def use(database: Database, seat: int) -> None:
        assert await database.transact(lambda connection: work(connection, seat)) == seat
        for _ in range(3):
            row = await database.fetchrow(_RANGE, last=seat)
            assert [(part.lower, part.upper) for part in row["found"]] == [(1, seat)]
            async with database.connection() as connection:
                assert await connection.fetchval("SELECT $1::jsonb", {"seat": seat}) == {"seat": seat}

    async with without_hang():
        await asyncio.gather(*(use(databases[at % 3], number + at) for at in range(24)))


async def test_a_pgbouncer_that_was_killed_is_used_again_when_it_is_back(
    databases: list[Database], bouncer: PgBouncer
) -> None:
    for database in databases:
        assert await database.fetch(_RANGE, last=2)
    bouncer.kill()
    for database in databases:
        with pytest.raises(Unavailable):
            await database.fetch(_RANGE, last=2)
    bouncer.start()

    async def answers(database: Database) -> bool:
        try:
            return bool(await database.fetch(_RANGE, last=2))
        except Unavailable:
            return False

    for database in databases:
        await eventually(partial(answers, database))


async def test_relays_that_share_connections_send_everything_also_after_pgbouncer_was_killed(
    store: Store, tmp_path: Path
) -> None:
    with PgBouncer.to(tmp_path, store.database_url) as bouncer:
        relays = [relay_of(store, database_url=bouncer.through(store.database_url)) for _ in range(3)]
        async with running(*(relay.run for relay in relays)):
            written = await store.write(700)
            await published(store)
            bouncer.kill()
            written += await store.write(5)
            bouncer.start()
            await published(store)
        assert await store.event_ids() == written


@pytest.mark.parametrize(("service", "directory"), [("auth", AUTH), ("booking", BOOKING)])
async def test_migrate_makes_the_schema_and_the_role_through_it(
    servers: ServerUrls, tmp_path: Path, worker_id: str, service: str, directory: Path
) -> None:
    superuser, kept = await asyncpg.connect(servers.postgres), KeptSecrets(Path(servers.kept))
    name = f"{service}_pgbouncer_{worker_id}"
    await superuser.execute("SELECT pg_advisory_lock($1)", TEMPLATES_LOCK)
    await create_database(superuser, kept, service, name)
    await superuser.close()
    urls = database_urls(servers.postgres, kept, service, name)
    with PgBouncer.to(tmp_path, *urls) as bouncer:
        through = DatabaseUrls(*map(bouncer.through, urls))
        assert await migrate(directory, migration_url=through.migration, application_url=through.application)
        assert await migrate(directory, migration_url=through.migration, application_url=through.application) == []
        connection = await Connector(through.application).connect()
        assert await connection.fetchval("SELECT current_setting('statement_timeout')") == "800ms"
        await connection.close()


async def test_a_connection_that_was_opened_before_another_found_out_names_no_statement(
    bouncer: PgBouncer, seats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, is_open, go_on = asyncpg.connect, asyncio.Event(), asyncio.Event()

    async def connect_late(**options: Any) -> Any:
        connection = await connect(**options)
        if not is_open.is_set():
            is_open.set()
            await go_on.wait()
        return connection

    monkeypatch.setattr(asyncpg, "connect", connect_late)
    connector = Connector(bouncer.through(seats_url))
    late = asyncio.create_task(connector.connect())
    await is_open.wait()
    connections = [await connector.connect()]
    go_on.set()
    connections.append(await late)
    for connection in connections:
        assert await connection.fetchval("SELECT $1::int", 1) == 1
        assert await connection.fetchval(_PREPARED) == 0
        await connection.close()
