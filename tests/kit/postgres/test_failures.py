"""After an error whose cause is on this side of the connection, the server may be in the middle of a query."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.kit.errors import Conflict, NotReady, Unavailable
from services.kit.health import Health
from services.kit.postgres.database import Connection, Database
from services.kit.postgres.engine import async_engine
from services.kit.postgres.failures import leaves_connection_usable, translated
from services.kit.postgres.migrations import check_schema
from tests.support.databases import ServerUrls
from tests.support.waiting import eventually

BEFORE_TIME = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23, minutes=59)))
PID = "SELECT pg_backend_pid()"
TABLE = "CREATE TABLE IF NOT EXISTS few (number int CONSTRAINT few_positive CHECK (number > 0))"
Failing = Callable[[Connection], Awaitable[Any]]


async def _undecodable(connection: Connection) -> None:
    def decode(_: str) -> int:
        raise ValueError

    await connection.set_type_codec("int2", schema="pg_catalog", encoder=str, decoder=decode)
    await connection.fetchval("SELECT 7::int2")


async def _outdated(connection: Connection) -> None:
    await connection.execute("DROP TYPE IF EXISTS pair CASCADE")
    await connection.execute("CREATE TYPE pair AS (a int)")
    await connection.fetchval("SELECT row(1)::pair")
    await connection.execute("ALTER TYPE pair ADD ATTRIBUTE b int")
    await connection.fetchval("SELECT row(1, 2)::pair")


async def _at_once(connection: Connection) -> None:
    await asyncio.gather(connection.fetchval("SELECT pg_sleep(0.1)"), connection.fetchval("SELECT 1"))


async def _cancelled(connection: Connection) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.05, task.cancel)
    await connection.fetchval("SELECT pg_sleep(30)")


async def _wrong(_: Connection) -> None:
    raise KeyError


# Whatever asyncpg raises of its own, and what else may end a block at an unknown point.
FAILING: dict[str, Failing] = {
    "an instant before time": lambda one: one.fetch("SELECT $1::timestamptz", BEFORE_TIME),
    "an integer beyond 64 bits": lambda one: one.fetch("SELECT $1::bigint", 2**63),
    "a value of another type": lambda one: one.fetch("SELECT $1::int", "1"),
    "half a surrogate": lambda one: one.fetch("SELECT $1::text", "\ud800"),
    "what is no JSON": lambda one: one.fetch("SELECT $1::jsonb", object()),
    "too many values": lambda one: one.fetch("SELECT $1::int", 1, 2),
    "far too many values": lambda one: one.fetch("SELECT 1", *range(32_768)),
    "a bad one of many": lambda one: one.executemany("SELECT $1::int", [(1,), (2**40,)]),
    "no sequence of many": lambda one: one.executemany("SELECT $1::int", [1]),
    "a cursor outside a transaction": lambda one: one.cursor("SELECT 1"),
    "a value that cannot be decoded": _undecodable,
    "a type that has changed": _outdated,
    "two statements at once": _at_once,
    "a time-out": lambda one: one.fetch("SELECT pg_sleep(30)", timeout=0.05),
    "cancellation": _cancelled,
    "a bug": _wrong,
}


@pytest.fixture(scope="module")
async def url(servers: ServerUrls, worker_id: str) -> str:
    name = f"kit_failures_{worker_id}"
    connection = await asyncpg.connect(servers.postgres)
    await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    url = servers.postgres.rpartition("/")[0] + f"/{name}"
    connection = await asyncpg.connect(url)
    await connection.execute(TABLE)
    await connection.close()
    return url


@pytest.fixture
async def limited(url: str) -> str:
    """As the services' roles: the server ends what takes too long."""
    return f"{url}?{urlencode({'options': '-c statement_timeout=100ms'})}"


@pytest.fixture
async def database(limited: str) -> AsyncIterator[Database]:
    database = Database(limited, registry=CollectorRegistry(), max_connections=6)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def single(url: str) -> AsyncIterator[Database]:
    """One connection, so that whether it is lent again shows."""
    database = Database(url, registry=CollectorRegistry(), max_connections=1)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = async_engine(url, pool_size=1, max_overflow=0)
    yield engine
    await engine.dispose()


async def _pid(database: Database) -> int:
    async def work(connection: Connection) -> int:
        pid: int = await connection.fetchval(PID)
        return pid

    return await database.transact(work)


async def _limit_passed(url: str, *pids: int) -> None:
    """Wait until each of these server processes is done or gone, or past the time limit of its query."""
    watching = await asyncpg.connect(url.partition("?")[0])

    async def done() -> bool:
        within = "xact_start > clock_timestamp() - interval '200ms'"
        busy = f"SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1::int[]) AND {within}"
        return not await watching.fetchval(busy, list(pids))

    await eventually(done)
    await watching.close()


async def _fail(database: Database, fail: Failing, where: str) -> None:
    """Raises what `fail` does, also a cancellation, in a task of its own."""

    async def outside() -> None:
        async with database.connection() as connection:
            await fail(connection)

    work = outside() if where == "outside a transaction" else database.transact(fail)
    await asyncio.ensure_future(work)


@pytest.mark.parametrize(
    ("failure", "where"),
    [
        (failure, where)
        for failure in FAILING
        for where in ("outside a transaction", "in a transaction")
        if (failure, where) != ("a cursor outside a transaction", "in a transaction")
    ],
)
async def test_a_connection_with_an_error_that_is_not_the_servers_is_not_lent_again(
    single: Database, failure: str, where: str
) -> None:
    before = await _pid(single)
    with pytest.raises((Exception, asyncio.CancelledError)):
        await _fail(single, FAILING[failure], where)
    assert await _pid(single) != before


@pytest.mark.parametrize("where", ["outside a transaction", "in a transaction"])
async def test_a_connection_is_kept_when_the_server_or_the_domain_refuses(single: Database, where: str) -> None:
    async def conflict(_: Connection) -> None:
        raise Conflict

    before = await _pid(single)
    for refused in (conflict, lambda one: one.execute("INSERT INTO few VALUES (-1)"), lambda one: one.execute("SELEC")):
        with pytest.raises((Conflict, asyncpg.CheckViolationError, asyncpg.PostgresSyntaxError)):
            await _fail(single, refused, where)
    assert await _pid(single) == before


async def test_requests_that_cannot_be_asked_stop_no_transaction(database: Database, limited: str) -> None:
    """The attack: one such request on each connection, each a statement of its own, and then the time limit passes."""
    pids: list[int] = []

    async def ask(shape: int) -> None:
        async with database.connection() as connection:
            pids.append(await connection.fetchval(PID))
            await together.wait()
            await connection.fetch(f"SELECT $1::timestamptz, {shape}", BEFORE_TIME)

    together = asyncio.Barrier(6)
    failures = await asyncio.gather(*(ask(shape) for shape in range(6)), return_exceptions=True)
    assert {type(failure) for failure in failures} == {asyncpg.DataError}
    assert len(set(pids)) == 6
    await _limit_passed(limited, *pids)
    used = [await _pid(database) for _ in range(12)]
    assert not set(used) & set(pids)


async def test_a_connection_whose_begin_fails_is_not_lent_again(database: Database, limited: str) -> None:
    async with database.connection() as connection:
        pid = await connection.fetchval(PID)
        with pytest.raises(asyncpg.DataError):
            await connection.fetch("SELECT $1::timestamptz", BEFORE_TIME)
    await _limit_passed(limited, pid)
    with pytest.raises(Unavailable):
        await _pid(database)
    assert await _pid(database) != pid


@pytest.mark.parametrize("outcome", ["COMMIT", "ROLLBACK"])
async def test_a_connection_whose_transaction_cannot_be_ended_is_not_lent_again(
    database: Database, limited: str, outcome: str
) -> None:
    pids = []

    async def work(connection: Connection) -> None:
        pids.append(await connection.fetchval(PID))
        with pytest.raises(asyncpg.DataError):
            await connection.fetch("SELECT $1::timestamptz", BEFORE_TIME)
        await _limit_passed(limited, *pids)
        if outcome == "ROLLBACK":
            raise Conflict

    with pytest.raises((Unavailable, Conflict)):
        await database.transact(work)
    assert await _pid(database) not in pids


async def _sqlalchemy_pid(engine: AsyncEngine) -> int:
    async with engine.begin() as connection:
        pid: int = (await connection.execute(text(PID))).scalar_one()
        return pid


@pytest.mark.parametrize(
    ("cast", "value"),
    [
        ("timestamptz", BEFORE_TIME),
        ("bigint", 2**63),
        ("int", "1"),
        ("text", "\ud800"),
        ("jsonb", object()),
        ("numeric", "x"),
    ],
)
async def test_sqlalchemy_ends_a_connection_whose_parameter_cannot_be_encoded(
    engine: AsyncEngine, cast: str, value: object
) -> None:
    before = await _sqlalchemy_pid(engine)
    with pytest.raises(Exception):  # noqa: B017, PT011
        async with engine.begin() as connection:
            await connection.execute(text(f"SELECT CAST(:value AS {cast})"), {"value": value})
    assert await _sqlalchemy_pid(engine) != before


async def test_sqlalchemy_ends_a_connection_at_a_time_out_and_at_a_cancellation(engine: AsyncEngine) -> None:
    before = await _sqlalchemy_pid(engine)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), engine.begin() as connection:
            await connection.execute(text("SELECT pg_sleep(30)"))
    assert await _sqlalchemy_pid(engine) != before


async def test_sqlalchemy_keeps_a_connection_when_the_server_refuses(engine: AsyncEngine) -> None:
    before = await _sqlalchemy_pid(engine)
    for refused in ("INSERT INTO few VALUES (-1)", "SELEC"):
        with pytest.raises(Exception, match=r"few_positive|syntax"):
            async with engine.begin() as connection:
                await connection.execute(text(refused))
    assert await _sqlalchemy_pid(engine) == before


async def test_sqlalchemy_ends_a_connection_whose_begin_fails(limited: str) -> None:
    engine = async_engine(limited, pool_size=1, max_overflow=0)
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        pid = await driver.fetchval(PID)
        with pytest.raises(asyncpg.DataError):
            await driver.fetch("SELECT $1::timestamptz", BEFORE_TIME)
    await _limit_passed(limited, pid)
    with pytest.raises(Exception, match="statement timeout"):
        await _sqlalchemy_pid(engine)
    assert await _sqlalchemy_pid(engine) != pid
    await engine.dispose()


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
async def test_sqlalchemy_ends_a_connection_whose_transaction_cannot_be_ended(limited: str, outcome: str) -> None:
    engine = async_engine(limited, pool_size=1, max_overflow=0)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        driver: Any = (await connection.get_raw_connection()).driver_connection
        pid = await driver.fetchval(PID)
        with pytest.raises(asyncpg.DataError):
            await driver.fetch("SELECT $1::timestamptz", BEFORE_TIME)
        await _limit_passed(limited, pid)
        with pytest.raises(Exception, match="statement timeout"):
            await getattr(connection, outcome)()
    assert await _sqlalchemy_pid(engine) != pid
    await engine.dispose()


@pytest.mark.parametrize(
    ("sqlstate", "is_bug"),
    [("25P01", True), ("25P02", True), ("25001", True), ("25006", False), ("25P03", False), ("22008", True)],
)
async def test_disagreement_about_the_transaction_is_a_bug_and_a_standby_an_outage(
    single: Database, sqlstate: str, is_bug: bool
) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$"
    with pytest.raises(asyncpg.PostgresError if is_bug else Unavailable):
        await single.transact(lambda connection: connection.execute(raising))


def test_an_error_of_the_driver_that_looks_like_the_servers_is_told_apart() -> None:
    assert not leaves_connection_usable(asyncpg.UniqueViolationError("made here"))
    assert leaves_connection_usable(None)
    assert isinstance(translated(asyncpg.DataError("made here"), {}), asyncpg.DataError)


async def test_readiness_shows_a_pool_whose_transactions_fail(single: Database, tmp_path: Path) -> None:
    health = Health(
        "kit", "1", CollectorRegistry(), essential={"postgres": lambda: check_schema(single, tmp_path)}, others={}
    )
    with pytest.raises(NotReady):  # a transaction succeeds, and finds no schema
        await check_schema(single, tmp_path)
    async with single.connection() as connection:
        before = await connection.fetchval(PID)
        connection._top_xact = object()  # where asyncpg believes it is in a transaction, BEGIN is a SAVEPOINT
    report = await health.report()
    assert report.status == "unavailable"
    with pytest.raises(NotReady):
        await check_schema(single, tmp_path)
    assert await _pid(single) != before
