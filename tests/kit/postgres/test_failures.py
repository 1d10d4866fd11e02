"""A connection is lent again only when its last error was an answer of the server or of the domain."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from services.kit.errors import Conflict, NotReady, Unavailable
from services.kit.http.health import Health
from services.kit.postgres.database import Connection, Database
from services.kit.postgres.failures import leaves_connection_usable, translated
from services.kit.postgres.migrations import check_schema
from tests.kit.postgres.databases import opened
from tests.kit.postgres.failing import BEFORE_TIME, FAILING, PID, fail, leave_a_query_open, limit_passed, pid_of


@pytest.fixture
async def database(limited: str) -> AsyncIterator[Database]:
    async with opened(limited, connections=6) as database:
        yield database


@pytest.fixture
async def single(seats_url: str) -> AsyncIterator[Database]:
    """A pool of one connection, to see whether that is lent again."""
    async with opened(seats_url, connections=1) as database:
        yield database


@pytest.mark.parametrize(
    ("failure", "where"),
    [
        (failure, where)
        for failure in FAILING
        for where in ("outside a transaction", "in a transaction")
        if (failure, where) != ("a cursor outside a transaction", "in a transaction")
    ],
)
async def test_a_connection_is_not_lent_again_after_an_error_that_is_not_the_servers(
    single: Database, failure: str, where: str
) -> None:
    before = await pid_of(single)
    with pytest.raises((Exception, asyncio.CancelledError)):
        await fail(single, FAILING[failure], where)
    assert await pid_of(single) != before


@pytest.mark.parametrize("where", ["outside a transaction", "in a transaction"])
async def test_a_connection_is_kept_when_the_server_or_the_domain_refuses(single: Database, where: str) -> None:
    async def conflict(_: Connection) -> None:
        raise Conflict

    before = await pid_of(single)
    for refused in (
        conflict,
        lambda one: one.execute("INSERT INTO seats (number) VALUES (-1)"),
        lambda one: one.execute("SELEC"),
    ):
        with pytest.raises((Conflict, asyncpg.CheckViolationError, asyncpg.PostgresSyntaxError)):
            await fail(single, refused, where)
    assert await pid_of(single) == before


async def test_parameters_that_cannot_be_encoded_stop_no_other_transaction(database: Database, limited: str) -> None:
    """An attack: one such parameter on each connection, each in another statement, until the time limit passes."""
    pids: list[int] = []

    async def query(shape: int) -> None:
        async with database.connection() as connection:
            pids.append(await connection.fetchval(PID))
            await together.wait()
            await connection.fetch(f"SELECT $1::timestamptz, {shape}", BEFORE_TIME)

    together = asyncio.Barrier(6)
    failures = await asyncio.gather(*(query(shape) for shape in range(6)), return_exceptions=True)
    assert {type(failure) for failure in failures} == {asyncpg.DataError}
    assert len(set(pids)) == 6
    await limit_passed(limited, *pids)
    used = [await pid_of(database) for _ in range(12)]
    assert not set(used) & set(pids)


async def test_a_connection_whose_begin_fails_is_not_lent_again(database: Database, limited: str) -> None:
    async with database.connection() as connection:
        pid = await leave_a_query_open(connection)
    await limit_passed(limited, pid)
    with pytest.raises(Unavailable):
        await pid_of(database)
    assert await pid_of(database) != pid


@pytest.mark.parametrize("outcome", ["COMMIT", "ROLLBACK"])
async def test_a_connection_whose_transaction_cannot_be_ended_is_not_lent_again(
    database: Database, limited: str, outcome: str
) -> None:
    pids = []

    async def work(connection: Connection) -> None:
        pids.append(await leave_a_query_open(connection))
        await limit_passed(limited, *pids)
        if outcome == "ROLLBACK":
            raise Conflict

    with pytest.raises((Unavailable, Conflict)):
        await database.transact(work)
    assert await pid_of(database) not in pids


@pytest.mark.parametrize(
    ("sqlstate", "is_bug"),
    [("25P01", True), ("25P02", True), ("25001", True), ("25006", False), ("25P03", False), ("22008", True)],
)
async def test_a_wrong_transaction_state_is_a_bug_and_a_standby_is_an_outage(
    single: Database, sqlstate: str, is_bug: bool
) -> None:
    raising = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$"
    with pytest.raises(asyncpg.PostgresError if is_bug else Unavailable):
        await single.transact(lambda connection: connection.execute(raising))


def test_an_error_that_the_driver_raises_is_not_an_answer_of_the_server() -> None:
    assert not leaves_connection_usable(asyncpg.UniqueViolationError("made here"))
    assert leaves_connection_usable(None)
    assert isinstance(translated(asyncpg.DataError("made here"), {}), asyncpg.DataError)


async def test_readiness_shows_a_pool_whose_transactions_fail(single: Database, tmp_path: Path) -> None:
    health = Health("kit", "1", CollectorRegistry())
    health.add("postgres", lambda: check_schema(single, tmp_path), essential=True)
    with pytest.raises(NotReady):  # a transaction succeeds, and finds no schema
        await check_schema(single, tmp_path)
    async with single.connection() as connection:
        before = await connection.fetchval(PID)
        connection._top_xact = object()  # as if a transaction were open: asyncpg sends SAVEPOINT for BEGIN
    report = await health.report()
    assert report.status == "unavailable"
    with pytest.raises(NotReady):
        await check_schema(single, tmp_path)
    assert await pid_of(single) != before
