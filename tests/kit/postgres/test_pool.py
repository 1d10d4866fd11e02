import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.kit.postgres import pool as module
from services.kit.postgres.pool import Pool
from tests.support.databases import ServerUrls
from tests.support.waiting import eventually, without_hang


async def _nothing(_: asyncpg.Connection) -> None: ...


@pytest.fixture
async def pool(servers: ServerUrls) -> AsyncIterator[Pool]:
    pool = Pool(servers.postgres, size=2, command_seconds=30, prepare=_nothing)
    yield pool
    await pool.close()


async def test_a_connection_is_opened_when_none_is_idle_and_the_last_one_used_is_lent_first(pool: Pool) -> None:
    first, second = await pool.acquire(), await pool.acquire()
    assert len(pool) == 2
    pool.release(second)
    pool.release(first)
    assert await pool.acquire() is first
    assert await pool.acquire() is second
    pool.release(first)
    pool.release(second)
    assert len(pool) == 2


async def test_a_waiting_caller_gets_the_connection_that_is_released(pool: Pool) -> None:
    taken = [await pool.acquire(), await pool.acquire()]
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    pool.release(taken[1])
    assert await waiting is taken[1]
    for connection in taken:
        pool.release(connection)


async def test_a_caller_that_waits_too_long_or_is_cancelled_takes_no_connection(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = [await pool.acquire(), await pool.acquire()]
    with monkeypatch.context() as impatient:
        impatient.setattr(module, "_ACQUIRE_SECONDS", 0.1)
        with pytest.raises(TimeoutError):
            await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.05)
    waiting.cancel()
    for connection in taken:
        pool.release(connection)
    assert {await pool.acquire(), await pool.acquire()} == set(taken)
    for connection in taken:
        pool.release(connection)


async def test_a_connection_that_is_released_in_a_transaction_is_closed(pool: Pool) -> None:
    connection = await pool.acquire()
    await connection.execute("BEGIN")
    pool.release(connection)
    assert connection.is_closed()
    assert len(pool) == 0


async def test_a_connection_that_broke_while_it_was_idle_is_replaced(pool: Pool, servers: ServerUrls) -> None:
    connection = await pool.acquire()
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    pool.release(connection)
    killer = await asyncpg.connect(servers.postgres)
    await killer.execute("SELECT pg_terminate_backend($1, 5000)", pid)
    await killer.close()
    await eventually(connection.is_closed)
    other = await pool.acquire()
    assert await other.fetchval("SELECT 1") == 1
    pool.release(other)
    assert len(pool) == 1


async def test_a_connection_that_cannot_be_prepared_takes_no_place_in_the_pool(servers: ServerUrls) -> None:
    async def refuse(connection: asyncpg.Connection) -> None:
        refused.append(connection)
        raise OSError

    refused: list[asyncpg.Connection] = []
    pool = Pool(servers.postgres, size=1, command_seconds=1, prepare=refuse)
    for _ in range(2):
        with pytest.raises(OSError):  # noqa: PT011  # it has no message
            await pool.acquire()
    assert len(pool) == 0
    assert all(connection.is_closed() for connection in refused)
    await pool.close()


async def test_idle_connections_are_closed_after_a_while(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.1)
    connection = await pool.acquire()
    pool.release(connection)
    await eventually(lambda: len(pool) == 0)
    assert connection.is_closed()


async def test_closing_waits_for_connections_in_use(pool: Pool) -> None:
    used, idle = await pool.acquire(), await pool.acquire()
    pool.release(idle)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0.05)
    assert await used.fetchval("SELECT 1") == 1
    pool.release(used)
    await closing
    assert used.is_closed()
    assert idle.is_closed()


async def test_closing_terminates_a_connection_that_is_not_released(servers: ServerUrls) -> None:
    pool = Pool(servers.postgres, size=1, command_seconds=30, prepare=_nothing)
    connection = await pool.acquire()
    async with without_hang():
        await pool.close()
    assert connection.is_closed()
