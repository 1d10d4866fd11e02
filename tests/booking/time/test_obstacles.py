"""What refuses a booking: other appointments of the doctor or the patient, and held slots."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.booking.clinic import (
    Clinic,
    assert_refused,
    book,
    change,
    free_time,
    history,
    hold,
    is_lock_awaited,
    post,
    repeat,
    request_for,
    wire,
)
from tests.support.metrics import total
from tests.support.waiting import eventually

HALF_HOUR = timedelta(minutes=30)


async def test_a_taken_slot_is_refused_with_the_next_free_ones(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    await book(client, clinic.patient(), doctor, at, durationMinutes=45)
    await book(client, clinic.patient(), doctor, at + timedelta(hours=1))
    await book(client, patient, clinic.doctor(), at + timedelta(hours=2))
    problem = assert_refused(await post(client, patient, request_for(doctor, at)), 409, "slot_taken")
    # 09:45 is too short, 10:00 to 10:30 and 11:00 to 11:30 are taken.
    starts = [at + timedelta(minutes=minutes) for minutes in (90, 150, 180)]
    assert problem["alternatives"] == [{"dateTime": wire(time), "endsAt": wire(time + HALF_HOUR)} for time in starts]
    for alternative in problem["alternatives"]:
        await book(client, patient, doctor, datetime.fromisoformat(alternative["dateTime"]))


@pytest.mark.parametrize(
    ("offset", "minutes", "taken"),
    [(-15, 30, True), (15, 5, True), (-60, 240, True), (-30, 30, False), (30, 30, False)],
)
async def test_overlapping_is_refused_and_touching_is_not(
    client: httpx.AsyncClient, clinic: Clinic, offset: int, minutes: int, taken: bool
) -> None:
    doctor, at = clinic.doctor(), free_time()
    await book(client, clinic.patient(), doctor, at)
    body = request_for(doctor, at + timedelta(minutes=offset), durationMinutes=minutes)
    assert (await post(client, clinic.patient(), body)).status_code == (409 if taken else 201)


async def test_a_patient_is_never_in_two_places_at_once(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, doctor, at = clinic.patient(), clinic.doctor(), free_time()
    await book(client, patient, clinic.doctor(), at)
    assert_refused(await post(client, patient, request_for(doctor, at)), 409, "patient_busy")
    body = request_for(doctor, at, patientId=str(patient.id), overbook=True, reason="Urgent")
    assert_refused(await post(client, doctor, body), 409, "patient_busy")


async def test_the_patient_being_busy_is_named_before_the_slot(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, doctor, at = clinic.patient(), clinic.doctor(), free_time()
    await book(client, patient, doctor, at)
    assert_refused(await post(client, patient, request_for(doctor, at)), 409, "patient_busy")


async def test_overbooking_needs_a_reason_and_shows(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, at = clinic.doctor(), free_time()
    await book(client, clinic.patient(), doctor, at)
    body = request_for(doctor, at, patientId=str(clinic.patient().id), overbook=True)
    assert_refused(await post(client, doctor, body), 400, "invalid_request", "reason")
    appointment = (await post(client, doctor, {**body, "reason": "Urgent"})).json()
    assert appointment["overbooked"] is True
    (entry,) = await history(client, doctor, appointment)
    assert (entry["reason"], entry["after"]["overbooked"]) == ("Urgent", True)


async def test_an_overbooked_appointment_is_in_the_way_of_later_ones(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, at = clinic.doctor(), free_time()
    first = await book(client, clinic.patient(), doctor, at)
    await book(client, doctor, doctor, at, patientId=str(clinic.patient().id), overbook=True, reason="Urgent")
    assert (await change(client, doctor, first, status="CANCELLED")).status_code == 200
    assert_refused(await post(client, clinic.patient(), request_for(doctor, at)), 409, "slot_taken")


async def test_overbooking_a_free_time_is_an_ordinary_booking(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    appointment = await book(
        client, doctor, doctor, patientId=str(clinic.patient().id), overbook=True, reason="Just in case"
    )
    assert appointment["overbooked"] is False


async def test_a_cancelled_appointment_makes_room(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    appointment = await book(client, patient, doctor, at)
    assert (await change(client, patient, appointment, status="CANCELLED")).status_code == 200
    await book(client, clinic.patient(), doctor, at)


async def test_a_held_slot_is_taken_until_the_hold_dies(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, at = clinic.doctor(), free_time()
    held = await hold(database, doctor, clinic.patient(), at, "1 minute")
    assert_refused(await post(client, clinic.patient(), request_for(doctor, at)), 409, "slot_taken")
    await database.execute("UPDATE appointments SET hold_expires_at = now() - interval '1 second' WHERE id = $1", held)
    await book(client, clinic.patient(), doctor, at)
    assert not await database.fetchval("SELECT true FROM appointments WHERE id = $1", held)


async def test_a_dead_hold_of_the_patient_elsewhere_is_cleared_away_too(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    patient, at = clinic.patient(), free_time()
    held = await hold(database, clinic.doctor(), patient, at, "-1 second")
    await book(client, patient, clinic.doctor(), at)
    assert not await database.fetchval("SELECT true FROM appointments WHERE id = $1", held)


async def test_a_claim_that_bypassed_the_locks_is_refused_by_the_constraint(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, internal: httpx.AsyncClient
) -> None:
    """The obstacles do not show an uncommitted row; once it is committed, the second attempt finds it."""
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(client, patient, doctor)

    async def waits() -> bool:
        return await is_lock_awaited(database)

    async def refusals() -> float:
        return total((await internal.get("/metrics")).text, "booking_unseen_conflicts_total")

    claims: list[Callable[[datetime], Coroutine[Any, Any, httpx.Response]]] = [
        lambda at: post(client, clinic.patient(), request_for(doctor, at)),
        lambda at: change(client, patient, appointment, dateTime=wire(at)),
    ]
    before = await refusals()
    for number, claim in enumerate(claims, 1):
        at = free_time()
        async with database.transaction():
            await hold(database, doctor, clinic.patient(), at, "1 minute")
            claiming = asyncio.create_task(claim(at))
            await eventually(waits)
        assert_refused(await claiming, 409, "slot_taken")
        assert await refusals() == before + number


async def test_no_time_is_offered_beyond_the_appointments_that_were_read(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    """Two days of back-to-back appointments, of which the first 500 are read, and a gap after the 600th."""
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    appointment = await book(client, clinic.patient(), doctor, at, durationMinutes=5)
    await repeat(database, appointment, 599, every=timedelta(minutes=5))
    problem = assert_refused(await post(client, patient, request_for(doctor, at)), 409, "slot_taken")
    assert problem["alternatives"] == []
