"""Holds and bookings at once, from two processes on one database: one legal end and no failure."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx

from tests.booking.clinic import Clinic, Person, changed, events_of, free_time, request_for
from tests.booking.holds.holding import (
    HALF_HOUR,
    HOUR,
    booking_of,
    expire,
    held,
    hold_of,
    open_hours,
    post_hold,
    release,
)
from tests.booking.time.races import at_once, codes, overlaps, posts, warm
from tests.support.process import Served

ROUNDS = 15
BOOKED_LATER = """
    SELECT appointments.created_at > schedules.updated_at FROM appointments JOIN schedules USING (doctor_id)
    WHERE appointments.id = $1
"""


def holds(replicas: list[Served], patients: list[Person], body: dict[str, Any]) -> list[Awaitable[httpx.Response]]:
    return [post_hold(replicas[number % 2].client, patient, body) for number, patient in enumerate(patients)]


async def status_of(database: asyncpg.Connection, hold: dict[str, Any]) -> str | None:
    status: str | None = await database.fetchval("SELECT status FROM appointments WHERE id = $1", UUID(hold["id"]))
    return status


async def assert_booked_once(database: asyncpg.Connection, hold: dict[str, Any]) -> None:
    assert await status_of(database, hold) == "PENDING"
    assert await events_of(database, hold) == [("AppointmentCreated", 1)]
    versions = "SELECT count(*) FROM appointment_history WHERE appointment_id = $1"
    assert await database.fetchval(versions, UUID(hold["id"])) == 1


async def test_of_many_who_hold_or_book_one_slot_exactly_one_gets_it(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patients = clinic.doctor(), [clinic.patient() for _ in range(12)]
    await warm(replicas, doctor, patients)
    winners, first = Counter[bool](), free_time()
    for number in range(ROUNDS):
        at = first + number * HOUR
        holding, booking = (patients, []) if number % 3 == 0 else (patients[::2], patients[1::2])
        answers = await at_once(
            *holds(replicas, holding, hold_of(doctor, at)),
            *posts(replicas, [(patient, request_for(doctor, at)) for patient in booking]),
        )
        assert codes(answers) == {"ok": 1, "slot_taken": len(patients) - 1}
        (won,) = (answer.json() for answer in answers if answer.is_success)
        winners["expiresAt" in won] += 1
        for patient in patients:  # three holds at a time are the most
            if won["patientId"] == str(patient.id) and "expiresAt" in won:
                assert (await release(replicas[0].client, patient, won)).status_code == 204
    assert winners[True] >= ROUNDS // 3
    assert await overlaps(database) == 0


async def test_a_patient_never_has_more_than_three_holds(replicas: list[Served], clinic: Clinic) -> None:
    at = free_time()
    for _ in range(ROUNDS):
        patient, doctors = clinic.patient(), [clinic.doctor() for _ in range(2)]
        bodies = [hold_of(doctors[number % 2], at + number * HOUR) for number in range(8)]
        requests = [post_hold(replicas[number % 2].client, patient, body) for number, body in enumerate(bodies)]
        assert codes(await at_once(*requests)) == {"ok": 3, "too_many_open": 5}


async def test_a_hold_is_booked_once_whatever_is_sent_at_once(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, first = clinic.doctor(), clinic.patient(), free_time()
    for number in range(ROUNDS):
        at = first + number * HOUR
        hold = await held(replicas[0].client, patient, doctor, at)
        answers = await at_once(*posts(replicas, [(patient, booking_of(hold))] * 6))
        assert codes(answers) == {"ok": 1, "hold_expired": 5}
        await assert_booked_once(database, hold)
        hold = await held(replicas[0].client, patient, doctor, at + HALF_HOUR)
        key = {"Idempotency-Key": uuid4().hex}
        answers = await at_once(*posts(replicas, [(patient, booking_of(hold))] * 6, **key))
        assert codes(answers).keys() <= {"ok", "request_in_progress"}
        (content,) = {answer.content for answer in answers if answer.is_success}
        (again,) = await at_once(*posts(replicas, [(patient, booking_of(hold))], **key))
        assert (again.status_code, again.content) == (201, content)
        await assert_booked_once(database, hold)


async def test_a_hold_that_ends_while_it_is_booked_has_one_owner_of_its_time(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    """The hold's patient and another one book, while the hold ends."""
    doctor, patient, other, first = clinic.doctor(), clinic.patient(), clinic.patient(), free_time()
    await warm(replicas, doctor, [other])
    ends = Counter[str]()
    for number in range(ROUNDS * 2):
        hold = await held(replicas[0].client, patient, doctor, first + number * HALF_HOUR)
        rival = request_for(doctor, first + number * HALF_HOUR)
        ending = asyncio.create_task(expire(database, hold))
        if number % 3 == 0:
            await ending  # otherwise the first of three to come is anyone's guess
        owners, others = await at_once(*posts(replicas, [(patient, booking_of(hold)), (other, rival)]))
        await ending
        end = codes([owners, others])
        assert end in ({"ok": 1, "slot_taken": 1}, {"ok": 1, "hold_expired": 1})
        if owners.is_success:
            await assert_booked_once(database, hold)
        else:
            assert await status_of(database, hold) is None
        ends["the owner" if owners.is_success else "the other"] += 1
    assert ends.total() == ROUNDS * 2
    assert await overlaps(database) == 0


async def test_a_release_and_a_booking_have_one_winner(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, first = clinic.doctor(), clinic.patient(), free_time()
    for number in range(ROUNDS * 2):
        hold = await held(replicas[0].client, patient, doctor, first + number * HOUR)
        booked, released = await at_once(
            *posts(replicas, [(patient, booking_of(hold))]), release(replicas[1].client, patient, hold)
        )
        if booked.is_success:
            assert released.status_code == 404
            await assert_booked_once(database, hold)
        else:
            assert (booked.json()["code"], released.status_code) == ("not_found", 204)
            assert await status_of(database, hold) is None
            assert await events_of(database, hold) == []


async def test_a_held_time_is_not_booked_outside_hours_that_are_narrowed_at_the_same_moment(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    patient, at = clinic.patient(), free_time()
    for _ in range(ROUNDS):
        doctor = clinic.doctor()
        await open_hours(replicas[0].client, doctor)
        hold = await held(replicas[0].client, patient, doctor, at)
        narrowing = asyncio.create_task(open_hours(replicas[1].client, doctor, "keep", weekly=[]))
        (booked,) = await at_once(*posts(replicas, [(patient, booking_of(hold))]))
        await narrowing
        if booked.is_success:
            assert not await database.fetchval(BOOKED_LATER, UUID(hold["id"]))
            await changed(replicas[0].client, patient, booked.json(), status="CANCELLED")
            continue
        assert codes([booked]) == {"outside_availability": 1}
        assert (await release(replicas[0].client, patient, hold)).status_code == 204
