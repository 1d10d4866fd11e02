"""A type that changes while it is booked: an appointment has what the type was at one moment."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import asyncpg
import httpx

from services.booking.time.locks import lock_key
from tests.booking.appointment_types.offers import alter, listed, offer, withdraw
from tests.booking.clinic import Clinic, assert_refused, free_time, is_lock_awaited, post, request_for
from tests.support.waiting import eventually

HALF_DAY = timedelta(hours=12)
MOMENTS: list[dict[str, Any]] = [
    {"name": "Short", "price": "10.00", "durationMinutes": 30, "bufferBeforeMinutes": 0, "bufferAfterMinutes": 5},
    {"name": "Long", "price": "20.00", "durationMinutes": 60, "bufferBeforeMinutes": 15, "bufferAfterMinutes": 45},
]
_BOOKED = """
    SELECT type_name, type_price, extract(epoch FROM ends_at - starts_at)::int / 60 AS minutes,
           extract(epoch FROM lower(during) - lower(blocked))::int / 60 AS before,
           extract(epoch FROM upper(blocked) - upper(during))::int / 60 AS after
    FROM appointments WHERE doctor_id = $1
"""


async def test_an_appointment_has_all_of_one_moment(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    possible = {
        (one["name"], one["price"], one["durationMinutes"], one["bufferBeforeMinutes"], one["bufferAfterMinutes"])
        for one in MOMENTS
    }
    doctor = clinic.doctor()
    one = await offer(client, doctor, **MOMENTS[0])
    for round_ in range(5):
        start = free_time()
        wanted = [request_for(doctor, start + number * HALF_DAY / 6, typeId=one["id"]) for number in range(6)]
        changing = [alter(client, doctor, doctor, one, **MOMENTS[(round_ + number) % 2]) for number in range(3)]
        answers = await asyncio.gather(*(post(client, clinic.patient(), body) for body in wanted), *changing)
        assert {answer.status_code for answer in answers} <= {200, 201}
        for answer in answers[: len(wanted)]:
            appointment = answer.json()
            ((name, price, *numbers),) = await database.fetch(
                _BOOKED + " AND id::text = $2", doctor.id, appointment["id"]
            )
            assert (name, str(price), *numbers) in possible
            assert (appointment["type"]["name"], appointment["durationMinutes"]) == (name, numbers[0])


async def test_what_is_withdrawn_first_is_not_booked(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    """The booking looks at the type, then waits for the doctor's lock, and finds another type under it."""

    async def waits() -> bool:
        return await is_lock_awaited(database)

    doctor, patient = clinic.doctor(), clinic.patient()
    for change in ("withdrawn", "altered"):
        one = await offer(client, doctor, bufferAfterMinutes=0)
        async with database.transaction():
            # What a change of the type does, up to its commit.
            await database.execute("SELECT pg_advisory_xact_lock($1)", lock_key("doctor", str(doctor.id)))
            fields = "active = false" if change == "withdrawn" else "duration_minutes = 60, buffer_after_minutes = 30"
            await database.execute(f"UPDATE appointment_types SET {fields} WHERE id::text = $1", one["id"])
            booking = asyncio.create_task(post(client, patient, request_for(doctor, typeId=one["id"])))
            await eventually(waits)
        answer = await booking
        if change == "withdrawn":
            assert (answer.status_code, answer.json()["code"]) == (409, "type_unavailable")
        else:
            assert (answer.status_code, answer.json()["durationMinutes"]) == (201, 60)
            (row,) = await database.fetch(_BOOKED + " AND type_id::text = $2", doctor.id, one["id"])
            assert (row["minutes"], row["after"]) == (60, 30)


async def test_a_type_that_is_booked_while_it_is_deleted_is_deleted_or_kept(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    for _ in range(10):
        doctor, patient = clinic.doctor(), clinic.patient()
        one = await offer(client, doctor)
        booked, withdrawn = await asyncio.gather(
            post(client, patient, request_for(doctor, typeId=one["id"])), withdraw(client, doctor, doctor, one)
        )
        left = await listed(client, doctor, doctor)
        if booked.status_code == 201:
            assert (withdrawn.status_code, [kept["active"] for kept in left]) == (200, [False])
        else:
            assert booked.json()["code"] in ("type_not_found", "type_unavailable")
            assert (withdrawn.status_code, left) == (204, [])


async def test_a_change_waits_for_the_one_before_it(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    async def waits() -> bool:
        return await is_lock_awaited(database)

    doctor = clinic.doctor()
    one = await offer(client, doctor)
    writes: list[Callable[..., Coroutine[Any, Any, httpx.Response]]] = [alter, withdraw]
    for number, write in enumerate(writes, 1):
        async with database.transaction():
            await database.execute("SELECT pg_advisory_xact_lock($1)", lock_key("doctor", str(doctor.id)))
            await database.execute("UPDATE appointment_types SET version = version + 1 WHERE id::text = $1", one["id"])
            writing = asyncio.create_task(write(client, doctor, doctor, one, if_match=f'"{number}"'))
            await eventually(waits)
        assert_refused(await writing, 412, "precondition_failed")
