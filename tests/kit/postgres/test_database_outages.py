"""An outage of PostgreSQL is `Unavailable` in bounded time, and leaves no connection behind."""

import asyncio
import os
import signal
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from services.kit.errors import Unavailable
from services.kit.postgres import database as module
from services.kit.postgres.database import Connection, Database
from services.standalone.servers import Servers
from tests.kit.postgres.seats import SEAT, TAKE, ping
from tests.support.frozen import family, freeze
from tests.support.waiting import eventually, without_hang


@pytest.fixture(autouse=True)
def patience() -> None:
    """Keep the limits of production, which these tests are about."""


async def test_a_lost_connection_is_unavailable_and_the_transaction_is_not_repeated(database: Database) -> None:
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
    async with without_hang():
        with pytest.raises(Unavailable):
            await database.transact(lambda connection: connection.execute("SELECT pg_sleep(30)"))
    await ping(database)


async def test_a_server_that_is_slow_at_every_statement_is_unavailable(
    database: Database, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TRANSACTION_SECONDS", 0.5)

    async def take_long(connection: Connection) -> None:
        for _ in range(100):
            await connection.execute("SELECT pg_sleep(0.2)")
        await TAKE.execute(connection, number=number)

    async with without_hang():
        with pytest.raises(Unavailable):
            await database.transact(take_long)
    assert await database.fetchrow(SEAT, number=number) is None


async def test_a_lock_that_is_not_granted_is_unavailable(database: Database, number: int) -> None:
    async def wait_for_the_lock(connection: Connection) -> None:
        await connection.execute("SET LOCAL lock_timeout = '50ms'")
        await connection.execute("LOCK TABLE seats")

    async with database.connection() as other, other.transaction():
        await other.execute("LOCK TABLE seats")
        with pytest.raises(Unavailable):
            await database.transact(wait_for_the_lock)


async def test_a_pool_without_a_free_connection_is_unavailable(database: Database) -> None:
    async with database.connection(), database.connection(), database.connection(), database.connection():
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


async def test_a_missing_server_is_unavailable() -> None:
    database = Database("postgresql://nobody:x@127.0.0.1:1/none", registry=CollectorRegistry())
    await database.open()
    with pytest.raises(Unavailable):
        await ping(database)
    await database.close()


async def test_a_wrong_password_is_unavailable(seats_url: str) -> None:
    scheme, _, rest = seats_url.partition("://")
    wrong = f"{scheme}://postgres:wrong@{rest.rpartition('@')[2]}"
    database = Database(wrong, registry=CollectorRegistry())
    await database.open()
    with pytest.raises(Unavailable):
        await ping(database)
    await database.close()


async def test_a_frozen_server_is_unavailable_and_leaves_no_connection_behind(tmp_path: Path) -> None:
    servers = Servers(tmp_path / "data", durable=False, redis=False, mongodb=False)
    servers.start()
    database = Database(servers.postgres_url, registry=CollectorRegistry(), max_connections=4)
    await database.open()
    await asyncio.gather(*(ping(database) for _ in range(4)))
    processes = family(servers.pids["postgres"])
    try:
        freeze(*processes)
        for _ in range(2):
            async with without_hang():
                results = await asyncio.gather(
                    *(database.transact(lambda connection: connection.execute("SELECT 1")) for _ in range(10)),
                    return_exceptions=True,
                )
            assert {type(result) for result in results} == {Unavailable}
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    try:
        await eventually(lambda: _every_connection_answers(database))
        await database.close()
    finally:
        servers.stop()


async def _every_connection_answers(database: Database) -> bool:
    try:
        await asyncio.gather(*(ping(database) for _ in range(4)))
    except Unavailable:
        return False
    return True


async def test_a_connection_is_not_used_again_after_an_internal_error_of_the_driver(database: Database) -> None:
    """After a kill -9 of PostgreSQL, asyncpg called the connection open and refused every statement."""

    async def fail() -> None:
        async with database.connection() as connection:
            pids.append(await connection.fetchval("SELECT pg_backend_pid()"))
            raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    pids: list[int] = []
    with pytest.raises(Unavailable):
        await fail()
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") not in pids
