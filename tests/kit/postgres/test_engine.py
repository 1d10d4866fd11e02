"""SQLAlchemy's pool ends a connection after an error that is not an answer of the server, and keeps it otherwise."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.kit.postgres.engine import async_engine
from tests.kit.postgres.failing import BEFORE_TIME, PID, leave_a_query_open, limit_passed


@pytest.fixture
async def engine(seats_url: str) -> AsyncIterator[AsyncEngine]:
    engine = async_engine(seats_url, pool_size=1, max_overflow=0)
    yield engine
    await engine.dispose()


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


async def test_sqlalchemy_ends_a_connection_at_a_time_out(engine: AsyncEngine) -> None:
    before = await _sqlalchemy_pid(engine)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), engine.begin() as connection:
            await connection.execute(text("SELECT pg_sleep(30)"))
    assert await _sqlalchemy_pid(engine) != before


async def test_sqlalchemy_keeps_a_connection_when_the_server_refuses(engine: AsyncEngine) -> None:
    before = await _sqlalchemy_pid(engine)
    for refused in ("INSERT INTO seats (number) VALUES (-1)", "SELEC"):
        with pytest.raises(Exception, match=r"seats_positive|syntax"):
            async with engine.begin() as connection:
                await connection.execute(text(refused))
    assert await _sqlalchemy_pid(engine) == before


async def test_sqlalchemy_ends_a_connection_whose_begin_fails(limited: str) -> None:
    engine = async_engine(limited, pool_size=1, max_overflow=0)
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        pid = await leave_a_query_open(driver)
    await limit_passed(limited, pid)
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
        pid = await leave_a_query_open(driver)
        await limit_passed(limited, pid)
        with pytest.raises(Exception, match="statement timeout"):
            await getattr(connection, outcome)()
    assert await _sqlalchemy_pid(engine) != pid
    await engine.dispose()


async def test_the_text_of_an_error_has_no_parameters(engine: AsyncEngine) -> None:
    with pytest.raises(DBAPIError, match="division by zero") as raised:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT 1 / (length(:value) - 6)"), {"value": "secret"})
    assert "secret" not in str(raised.value)
