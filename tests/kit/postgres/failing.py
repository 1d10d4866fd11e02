"""Work on a connection that fails while the server may be in the middle of a query."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import asyncpg
import pytest

from services.kit.postgres.database import Connection, Database
from tests.support.waiting import eventually

BEFORE_TIME = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23, minutes=59)))
PID = "SELECT pg_backend_pid()"
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


# Errors that asyncpg raises itself, and others that end a block at an unknown point.
FAILING: dict[str, Failing] = {
    "an instant before time": lambda one: one.fetch("SELECT $1::timestamptz", BEFORE_TIME),
    "an integer beyond 64 bits": lambda one: one.fetch("SELECT $1::bigint", 2**63),
    "a value of another type": lambda one: one.fetch("SELECT $1::int", "1"),
    "a lone surrogate": lambda one: one.fetch("SELECT $1::text", "\ud800"),
    "an object that is not JSON": lambda one: one.fetch("SELECT $1::jsonb", object()),
    "too many values": lambda one: one.fetch("SELECT $1::int", 1, 2),
    "far too many values": lambda one: one.fetch("SELECT 1", *range(32_768)),
    "one invalid value of several": lambda one: one.executemany("SELECT $1::int", [(1,), (2**40,)]),
    "values that are not a sequence": lambda one: one.executemany("SELECT $1::int", [1]),
    "a cursor outside a transaction": lambda one: one.cursor("SELECT 1"),
    "a value that cannot be decoded": _undecodable,
    "a type that has changed": _outdated,
    "two statements at once": _at_once,
    "a time-out": lambda one: one.fetch("SELECT pg_sleep(30)", timeout=0.05),
    "cancellation": _cancelled,
    "a bug": _wrong,
}


async def fail(database: Database, work: Failing, where: str) -> None:
    """Run failing work in a task of its own, and raise its error, even a cancellation."""

    async def outside() -> None:
        async with database.connection() as connection:
            await work(connection)

    await asyncio.ensure_future(outside() if where == "outside a transaction" else database.transact(work))


async def leave_a_query_open(connection: Connection) -> int:
    """Fail to encode a parameter, so that the server waits for the rest of a query, and return the server process."""
    pid: int = await connection.fetchval(PID)
    with pytest.raises(asyncpg.DataError):
        await connection.fetch("SELECT $1::timestamptz", BEFORE_TIME)
    return pid


async def pid_of(database: Database) -> int:
    """Return the server process that answers in a transaction."""

    async def work(connection: Connection) -> int:
        pid: int = await connection.fetchval(PID)
        return pid

    return await database.transact(work)


async def limit_passed(url: str, *pids: int) -> None:
    """Wait until the query of each of these server processes has ended or exceeded its time limit."""
    watching = await asyncpg.connect(url.partition("?")[0])

    async def done() -> bool:
        within = "xact_start > clock_timestamp() - interval '600ms'"
        busy = f"SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1::int[]) AND {within}"
        return not await watching.fetchval(busy, list(pids))

    await eventually(done)
    await watching.close()
