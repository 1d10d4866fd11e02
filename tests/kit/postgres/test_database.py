import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from services.kit.errors import Conflict, Unavailable
from services.kit.postgres import database as module
from services.kit.postgres.database import Connection, Database, Statement
from services.standalone.servers import Servers
from tests.support.databases import ServerUrls
from tests.support.frozen import family, freeze

SEATS = sa.table("seats", sa.column("number", sa.Integer), sa.column("guest", sa.Uuid), sa.column("note", sa.Text))
TAKE = Statement(sa.insert(SEATS).values(number=sa.bindparam("number"), guest=sa.bindparam("guest")))
SEAT = Statement(sa.select(SEATS.c.number, SEATS.c.guest).where(SEATS.c.number == sa.bindparam("number")))


async def ping(database: Database) -> None:
    async with database.connection() as connection:
        await connection.fetchval("SELECT 1")


class SeatTaken(Conflict):
    code, title = "seat_taken", "The seat is taken"


CONSTRAINTS = {"seats_number_unique": SeatTaken}


@pytest.fixture(scope="module")
async def url(servers: ServerUrls, worker_id: str) -> str:
    name = f"kit_database_{worker_id}"
    connection = await asyncpg.connect(servers.postgres)
    await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    url = servers.postgres.rpartition("/")[0] + f"/{name}"
    connection = await asyncpg.connect(url)
    await connection.execute(
        "CREATE TABLE seats (number int CONSTRAINT seats_number_unique UNIQUE DEFERRABLE INITIALLY IMMEDIATE,"
        " guest uuid, note text, extra jsonb, CONSTRAINT seats_positive CHECK (number > 0))"
    )
    await connection.close()
    return url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url, registry=CollectorRegistry(), constraints=CONSTRAINTS, max_connections=4)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def number(database: Database) -> int:
    return int(uuid4().int % 2_000_000_000) + 1


async def test_a_statement_takes_its_values_by_name(database: Database, number: int) -> None:
    guest = uuid4()

    async def take(connection: Connection) -> str:
        return await TAKE.execute(connection, guest=guest, number=number)

    assert await database.transact(take) == "INSERT 0 1"
    row = await database.fetchrow(SEAT, number=number)
    assert (row["number"], row["guest"]) == (number, guest)
    assert len(await database.fetch(SEAT, number=number)) == 1
    async with database.connection() as connection:
        assert await SEAT.fetchval(connection, number=number) == number


def test_a_value_that_the_statement_does_not_know_is_a_bug() -> None:
    with pytest.raises(TypeError, match="numbr"):
        SEAT.values({"numbr": 1})


def test_an_expanding_in_cannot_be_compiled_once() -> None:
    with pytest.raises(ValueError, match="ANY"):
        Statement(sa.select(SEATS).where(SEATS.c.number.in_(sa.bindparam("numbers", expanding=True))))


async def test_jsonb_is_read_as_what_was_written(database: Database) -> None:
    async with database.connection() as connection:
        value: Any = {"a": [1, None, "é"]}
        assert await connection.fetchval("SELECT $1::jsonb", value) == value


async def test_a_violated_constraint_is_the_error_that_it_is_named_for(database: Database, number: int) -> None:
    async def take_twice(connection: Connection) -> None:
        await TAKE.execute(connection, number=number, guest=uuid4())
        await TAKE.execute(connection, number=number, guest=uuid4())

    with pytest.raises(SeatTaken):
        await database.transact(take_twice)
    assert await database.fetchrow(SEAT, number=number) is None


async def test_a_constraint_that_is_violated_only_at_commit_is_seen(database: Database, number: int) -> None:
    async def take_twice(connection: Connection) -> None:
        await connection.execute("SET CONSTRAINTS ALL DEFERRED")
        await TAKE.execute(connection, number=number, guest=uuid4())
        await TAKE.execute(connection, number=number, guest=uuid4())

    with pytest.raises(SeatTaken):
        await database.transact(take_twice)


async def test_a_constraint_without_an_error_is_a_bug(database: Database) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await database.transact(lambda connection: TAKE.execute(connection, number=-1, guest=uuid4()))


async def test_wrong_sql_is_a_bug_and_no_outage(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.transact(lambda connection: connection.execute("SELECT * FROM nowhere"))


async def test_an_error_of_the_domain_rolls_back_and_passes_through(database: Database, number: int) -> None:
    async def change_your_mind(connection: Connection) -> None:
        await TAKE.execute(connection, number=number, guest=uuid4())
        raise Conflict

    with pytest.raises(Conflict):
        await database.transact(change_your_mind)
    assert await database.fetchrow(SEAT, number=number) is None


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
async def test_a_serialization_failure_is_tried_again(database: Database, number: int, sqlstate: str) -> None:
    attempts = 0

    async def fail_twice(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        await TAKE.execute(connection, number=number, guest=uuid4())
        if attempts < 3:
            await connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '{sqlstate}'; END $$")

    await database.transact(fail_twice)
    assert attempts == 3
    assert len(await database.fetch(SEAT, number=number)) == 1


async def test_a_serialization_failure_that_lasts_is_unavailable(database: Database) -> None:
    attempts = 0

    async def fail(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '40001'; END $$")

    with pytest.raises(Unavailable):
        await database.transact(fail)
    assert attempts == 3


async def test_a_lost_connection_is_unavailable_and_not_tried_again(database: Database) -> None:
    attempts = 0

    async def cut(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Unavailable):
        await database.transact(cut)
    assert attempts == 1
    await ping(database)


async def test_a_statement_that_takes_too_long_is_unavailable(database: Database) -> None:
    started = monotonic()
    with pytest.raises(Unavailable):
        await database.transact(lambda connection: connection.execute("SELECT pg_sleep(30)"))
    assert monotonic() - started < 3
    await ping(database)


async def test_a_server_that_is_slow_at_every_statement_is_unavailable(
    database: Database, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TRANSACTION_SECONDS", 0.5)

    async def take_long(connection: Connection) -> None:
        for _ in range(20):
            await connection.execute("SELECT pg_sleep(0.2)")
        await TAKE.execute(connection, number=number)

    started = monotonic()
    with pytest.raises(Unavailable):
        await database.transact(take_long)
    assert monotonic() - started < 3
    assert await database.fetchrow(SEAT, number=number) is None


async def test_a_lock_that_is_not_given_is_unavailable(database: Database, number: int) -> None:
    async def wait_for_nothing(connection: Connection) -> None:
        await connection.execute("SET LOCAL lock_timeout = '50ms'")
        await connection.execute("LOCK TABLE seats")

    async with database.connection() as other, other.transaction():
        await other.execute("LOCK TABLE seats")
        with pytest.raises(Unavailable):
            await database.transact(wait_for_nothing)


async def test_a_pool_without_a_free_connection_is_unavailable(database: Database) -> None:
    async with (
        database.connection(),
        database.connection(),
        database.connection(),
        database.connection(),
    ):
        with pytest.raises(Unavailable):
            await ping(database)
    await ping(database)


async def test_a_cancelled_transaction_leaves_nothing_behind(database: Database, number: int) -> None:
    begun = asyncio.Event()

    async def hang(connection: Connection) -> None:
        await TAKE.execute(connection, number=number, guest=uuid4())
        begun.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(database.transact(hang))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.fetchrow(SEAT, number=number) is None


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    database = Database("postgresql://nobody:x@127.0.0.1:1/none", registry=CollectorRegistry())
    await database.open()
    with pytest.raises(Unavailable):
        await ping(database)
    await database.close()


async def test_a_wrong_password_is_unavailable(url: str) -> None:
    scheme, _, rest = url.partition("://")
    wrong = f"{scheme}://postgres:wrong@{rest.rpartition('@')[2]}"
    database = Database(wrong, registry=CollectorRegistry())
    await database.open()
    with pytest.raises(Unavailable):
        await ping(database)
    await database.close()


async def test_a_stopped_server_is_unavailable_within_three_seconds_and_leaks_nothing(tmp_path: Path) -> None:
    servers = Servers(tmp_path / "data", durable=False, redis=False, mongodb=False)
    servers.start()
    database = Database(servers.postgres_url, registry=CollectorRegistry(), max_connections=4)
    await database.open()
    await asyncio.gather(*(ping(database) for _ in range(4)))
    stopped = family(servers.pids["postgres"])
    try:
        freeze(*stopped)
        for _ in range(2):
            started = monotonic()
            results = await asyncio.gather(
                *(database.transact(lambda connection: connection.execute("SELECT 1")) for _ in range(10)),
                return_exceptions=True,
            )
            assert {type(result) for result in results} == {Unavailable}
            assert monotonic() - started < 3
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    try:
        deadline = monotonic() + 5
        while True:
            try:
                await asyncio.gather(*(ping(database) for _ in range(4)))
                break
            except Unavailable:
                assert monotonic() < deadline
        await database.close()
    finally:
        servers.stop()


async def test_a_connection_whose_driver_lost_track_is_not_used_again(database: Database) -> None:
    """Seen after a kill -9 of PostgreSQL: the driver calls itself connected, and refuses every statement."""

    async def lose_track() -> None:
        async with database.connection() as connection:
            pids.append(await connection.fetchval("SELECT pg_backend_pid()"))
            raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    pids: list[int] = []
    with pytest.raises(Unavailable):
        await lose_track()
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") not in pids
