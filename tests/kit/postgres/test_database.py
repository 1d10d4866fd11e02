"""Statements, transactions, and the errors that constraints and conflicts become."""

from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa

from services.kit.errors import Conflict, Unavailable
from services.kit.postgres.database import Connection, Database, Statement
from tests.kit.postgres.seats import SEAT, SEATS, TAKE, SeatTaken


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


def test_a_value_without_a_parameter_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="numbr"):
        SEAT.values({"numbr": 1})


def test_an_expanding_in_is_refused_when_the_statement_is_compiled() -> None:
    with pytest.raises(ValueError, match="ANY"):
        Statement(sa.select(SEATS).where(SEATS.c.number.in_(sa.bindparam("numbers", expanding=True))))


async def test_jsonb_is_read_as_the_value_that_was_written(database: Database) -> None:
    async with database.connection() as connection:
        value: Any = {"a": [1, None, "é"]}
        assert await connection.fetchval("SELECT $1::jsonb", value) == value


async def test_a_violated_constraint_raises_the_error_of_its_name(database: Database, number: int) -> None:
    async def take_twice(connection: Connection) -> None:
        await TAKE.execute(connection, number=number, guest=uuid4())
        await TAKE.execute(connection, number=number, guest=uuid4())

    with pytest.raises(SeatTaken):
        await database.transact(take_twice)
    assert await database.fetchrow(SEAT, number=number) is None


async def test_a_constraint_that_is_violated_at_commit_raises_its_error(database: Database, number: int) -> None:
    async def take_twice(connection: Connection) -> None:
        await connection.execute("SET CONSTRAINTS ALL DEFERRED")
        await TAKE.execute(connection, number=number, guest=uuid4())
        await TAKE.execute(connection, number=number, guest=uuid4())

    with pytest.raises(SeatTaken):
        await database.transact(take_twice)


async def test_a_violated_constraint_without_an_error_is_a_bug(database: Database) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await database.transact(lambda connection: TAKE.execute(connection, number=-1, guest=uuid4()))


async def test_wrong_sql_is_a_bug_and_not_an_outage(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.transact(lambda connection: connection.execute("SELECT * FROM nowhere"))


async def test_an_error_of_the_domain_rolls_back_and_is_raised(database: Database, number: int) -> None:
    async def take_and_fail(connection: Connection) -> None:
        await TAKE.execute(connection, number=number, guest=uuid4())
        raise Conflict

    with pytest.raises(Conflict):
        await database.transact(take_and_fail)
    assert await database.fetchrow(SEAT, number=number) is None


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
async def test_a_transaction_is_repeated_after_a_serialization_failure(
    database: Database, number: int, sqlstate: str
) -> None:
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


async def test_a_serialization_failure_at_every_attempt_is_unavailable(database: Database) -> None:
    attempts = 0

    async def fail(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'busy' USING ERRCODE = '40001'; END $$")

    with pytest.raises(Unavailable):
        await database.transact(fail)
    assert attempts == 3
