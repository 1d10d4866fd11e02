"""What the database refuses of schedules and of exceptions to them."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

AT = datetime(2030, 1, 1, tzinfo=UTC)


async def test_no_two_rules_of_a_doctor_overlap(application: asyncpg.Connection) -> None:
    doctor, period = uuid4(), uuid4()
    await application.execute("INSERT INTO schedules VALUES ($1, 'UTC', 30, 0, 90, 1, now())", doctor)
    add_period = "INSERT INTO schedule_periods VALUES ($1, $2, daterange($3, $4), 1)"
    await application.execute(add_period, period, doctor, None, AT.date())
    await application.execute(add_period, uuid4(), doctor, AT.date(), None)
    with pytest.raises(asyncpg.ExclusionViolationError):
        await application.execute(add_period, uuid4(), doctor, AT.date() - timedelta(days=1), AT.date())
    add_hours = "INSERT INTO schedule_hours VALUES ($1, 0, 1, $2, $3)"
    await application.execute(add_hours, period, 540, 720)
    await application.execute(add_hours, period, 720, 1500)
    with pytest.raises(asyncpg.ExclusionViolationError):
        await application.execute(add_hours, period, 700, 800)
    for start, end in ((1440, 1500), (600, 600), (100, 1541)):
        with pytest.raises(asyncpg.CheckViolationError):
            await application.execute(add_hours, period, start, end)


@pytest.mark.parametrize(
    ("constraint", "kind", "start", "end"),
    [
        ("schedule_exceptions_kind", "HOLIDAY", AT, AT + timedelta(days=1)),
        ("schedule_exceptions_length", "OFF", AT, AT),
        ("schedule_exceptions_length", "EXTRA", AT, AT + timedelta(days=366, minutes=1)),
    ],
)
async def test_an_exception_that_makes_no_sense_is_refused(
    application: asyncpg.Connection, constraint: str, kind: str, start: datetime, end: datetime
) -> None:
    local = (start.replace(tzinfo=None), end.replace(tzinfo=None))
    with pytest.raises(asyncpg.CheckViolationError) as refusal:
        await application.execute(
            "INSERT INTO schedule_exceptions VALUES ($1, $1, $2, $3, $4, NULL, now())", uuid4(), kind, *local
        )
    assert refusal.value.constraint_name == constraint
