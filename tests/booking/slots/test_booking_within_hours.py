"""Bookings and moves keep to the doctor's hours, and what is offered can be booked."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.booking.clinic import (
    Clinic,
    Person,
    assert_refused,
    book,
    change,
    changed,
    free_time,
    history,
    post,
    request_for,
    wire,
)

EVERY_DAY = [{"weekday": weekday, "start": "09:00", "end": "12:00"} for weekday in range(1, 8)]
HOURS: dict[str, Any] = {"timeZone": "UTC", "weekly": [{"hours": EVERY_DAY}]}
HOUR, HALF_HOUR, DAY = timedelta(hours=1), timedelta(minutes=30), timedelta(days=1)


async def open_hours(client: httpx.AsyncClient, doctor: Person, **update: Any) -> None:
    path = f"/api/availability/{doctor.id}?onConflict=keep"
    answer = await client.put(path, json={**HOURS, **update}, headers=doctor.headers)
    assert answer.status_code == 200, answer.text


async def slots(client: httpx.AsyncClient, doctor: Person, **query: Any) -> list[str]:
    answer = await client.get("/api/slots", params={"doctorId": str(doctor.id), "limit": 100, **query})
    assert answer.status_code == 200, answer.text
    return [slot["startsAt"] for slot in answer.json()["items"]]


def alternatives(problem: dict[str, Any]) -> list[str]:
    return [free["dateTime"] for free in problem["alternatives"]]


@pytest.mark.parametrize(
    ("minutes", "length"), [(-30, 30), (180, 30), (165, 30), (150, 60), (-60, 30), (15, 30), (0, 240), (31, 30)]
)
async def test_a_time_outside_the_hours_or_off_the_grid_is_refused_with_times_that_can_be_booked(
    client: httpx.AsyncClient, clinic: Clinic, minutes: float, length: int
) -> None:
    doctor, patient, day = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor)
    body = request_for(doctor, day + timedelta(minutes=minutes), durationMinutes=length)
    problem = assert_refused(await post(client, patient, body), 409, "outside_availability")
    assert len(problem["alternatives"]) == (3 if length < 240 else 0)
    offered = await slots(client, doctor, **{"from": body["dateTime"]}, durationMinutes=length)
    assert alternatives(problem) == offered[:3]
    for start in alternatives(problem)[:1]:
        await book(client, clinic.patient(), doctor, datetime.fromisoformat(start), durationMinutes=length)


async def test_case_6_the_list_and_the_booking_agree(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, day = clinic.doctor(), free_time()
    await open_hours(client, doctor, slotMinutes=15)
    first = await book(client, clinic.patient(), doctor, day, durationMinutes=15)
    await database.execute(
        "UPDATE appointments SET blocked = tstzrange(starts_at, ends_at + interval '30 minutes') WHERE id::text = $1",
        first["id"],
    )
    offered = await slots(client, doctor, **{"from": wire(day), "to": wire(day + HOUR)}, durationMinutes=15)
    assert offered == [wire(day + timedelta(minutes=45))]
    for minutes, status in ((30, 409), (45, 201)):
        body = request_for(doctor, day + timedelta(minutes=minutes), durationMinutes=15)
        assert (await post(client, clinic.patient(), body)).status_code == status


async def test_a_taken_time_is_refused_with_times_within_the_hours(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, day = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor)
    last = day + 5 * HALF_HOUR
    await book(client, patient, doctor, last)
    problem = assert_refused(await post(client, clinic.patient(), request_for(doctor, last)), 409, "slot_taken")
    assert alternatives(problem) == [wire(day + DAY + number * HALF_HOUR) for number in range(3)]


async def test_notice_and_horizon_bind_patients_and_not_the_doctor(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await open_hours(client, doctor, minimumNoticeMinutes=2880, horizonDays=4)
    tomorrow = (datetime.now(UTC) + DAY).replace(hour=9, minute=0, second=0, microsecond=0)
    problem = assert_refused(await post(client, patient, request_for(doctor, tomorrow)), 409, "too_soon")
    assert alternatives(problem) == (await slots(client, doctor))[:3]
    far = tomorrow + 6 * DAY
    assert_refused(await post(client, patient, request_for(doctor, far)), 409, "too_far")
    for at in (tomorrow, far, tomorrow + timedelta(minutes=37)):
        await book(client, doctor, doctor, at, patientId=str(clinic.patient().id), durationMinutes=5)


async def test_only_overbooking_gets_past_the_hours(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, day = clinic.doctor(), free_time()
    await open_hours(client, doctor)
    body = request_for(doctor, day - HOUR, patientId=str(clinic.patient().id))
    assert_refused(await post(client, doctor, body), 409, "outside_availability")
    answer = await post(client, doctor, {**body, "overbook": True, "reason": "In pain"})
    assert answer.status_code == 201, answer.text
    (entry,) = await history(client, doctor, answer.json())
    assert (entry["reason"], entry["after"]["overbooked"]) == ("In pain", False)


async def test_a_move_keeps_to_the_hours(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, day = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor)
    appointment = await book(client, patient, doctor, day)
    for update in ({"dateTime": wire(day - HOUR)}, {"durationMinutes": 240}):
        for by in (patient, doctor):
            problem = assert_refused(await change(client, by, appointment, **update), 409, "outside_availability")
    problem = assert_refused(
        await change(client, patient, appointment, dateTime=wire(day + timedelta(minutes=15))),
        409,
        "outside_availability",
    )
    moved = await changed(client, patient, appointment, dateTime=alternatives(problem)[0])
    await changed(client, doctor, moved, dateTime=wire(day + timedelta(minutes=15)))


async def test_what_was_agreed_stays_when_the_hours_change(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, admin, day = clinic.doctor(), clinic.patient(), clinic.admin(), free_time()
    appointment = await book(client, patient, doctor, day - HOUR)
    await open_hours(client, doctor)
    await changed(client, doctor, appointment, status="CONFIRMED")
    await changed(client, patient, appointment, notes="Another")
    await changed(client, doctor, appointment, status="CANCELLED")
    await changed(client, admin, appointment, status="CONFIRMED", reason="By mistake")


async def test_with_auto_confirm_an_appointment_is_confirmed_at_once_and_stays_so(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient, day = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor)
    asked = await book(client, patient, doctor, day)
    await open_hours(client, doctor, autoConfirm=True)
    # A request from before is still for the doctor to answer.
    assert (await changed(client, patient, asked, dateTime=wire(day + HOUR)))["status"] == "PENDING"
    confirmed = await book(client, patient, doctor, day)
    assert confirmed["status"] == "CONFIRMED"
    assert (await changed(client, patient, confirmed, dateTime=wire(day + HALF_HOUR)))["status"] == "CONFIRMED"
    await open_hours(client, doctor)
    assert (await changed(client, patient, confirmed, dateTime=wire(day)))["status"] == "PENDING"


async def test_an_appointment_has_the_zone_of_the_hours(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, day = clinic.doctor(), clinic.patient(), free_time().replace(hour=0)
    await open_hours(client, doctor, timeZone="Asia/Tokyo")
    appointment = await book(client, patient, doctor, day)
    assert (appointment["timeZone"], appointment["localDateTime"][11:]) == ("Asia/Tokyo", "09:00:00")
    moved = await changed(client, patient, appointment, dateTime=wire(day + HOUR))
    assert (moved["timeZone"], moved["localDateTime"][11:]) == ("Asia/Tokyo", "10:00:00")


async def test_nobody_books_outside_hours_that_are_narrowed_at_the_same_moment(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    """What was booked before the hours changed is older than them."""
    for _ in range(5):
        doctor, day = clinic.doctor(), free_time()
        await open_hours(client, doctor)
        bookings = (post(client, clinic.patient(), request_for(doctor, day + n * HALF_HOUR)) for n in range(6))
        narrowing = asyncio.create_task(open_hours(client, doctor, weekly=[]))
        answers = await asyncio.gather(*bookings)
        await narrowing
        assert {answer.status_code for answer in answers} <= {201, 409}
        late = await database.fetchval(
            "SELECT count(*) FROM appointments JOIN schedules USING (doctor_id)"
            " WHERE doctor_id = $1 AND appointments.created_at > schedules.updated_at",
            doctor.id,
        )
        assert late == 0


async def test_every_slot_can_be_booked_and_no_other_start(client: httpx.AsyncClient, clinic: Clinic) -> None:
    """Random hours, zones and bookings; the database decides."""
    choose = random.Random(7)
    for _ in range(8):
        doctor, day, step = clinic.doctor(), free_time().replace(hour=0), choose.choice([20, 30, 60])
        hours = []
        for weekday in range(1, 8):
            first = choose.randrange(0, 12)
            last = first + choose.randrange(1, 12)
            hours.append({"weekday": weekday, "start": f"{first:02}:00", "end": f"{last:02}:00"})
        zone = choose.choice(["UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])
        await open_hours(client, doctor, timeZone=zone, slotMinutes=step, weekly=[{"hours": hours}])
        window = {"from": wire(day), "to": wire(day + DAY)}
        for _ in range(2):
            if found := await slots(client, doctor, **window):
                await book(client, clinic.patient(), doctor, datetime.fromisoformat(choose.choice(found)))
        offered = await slots(client, doctor, **window)
        for minutes in range(0, 1440, 30):
            at = day + timedelta(minutes=minutes)
            appointment = await post(client, clinic.patient(), request_for(doctor, at))
            assert appointment.status_code == (201 if wire(at) in offered else 409), (zone, step, hours, at)
            if appointment.status_code == 201:
                await changed(client, doctor, appointment.json(), status="CANCELLED")
