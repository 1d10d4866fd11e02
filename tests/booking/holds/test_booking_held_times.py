"""POST /api/appointments with `holdId`: the hold becomes the appointment."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from tests.booking.bus import Bus, suspended
from tests.booking.clinic import (
    Clinic,
    assert_refused,
    book,
    change,
    changed,
    events_of,
    free_time,
    get,
    history,
    post,
    request_for,
    wire,
)
from tests.booking.holds.holding import HALF_HOUR, HOUR, booking_of, expire, held, listed, open_hours, release


async def test_a_hold_becomes_the_appointment_of_its_id(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    hold = await held(client, patient, doctor, at, durationMinutes=45)
    answer = await post(client, patient, booking_of(hold, notes="Ü"))
    assert answer.status_code == 201, answer.text
    appointment = answer.json()
    assert answer.headers["location"] == f"/api/appointments/{hold['id']}"
    assert answer.headers["etag"] == '"1"'
    names = ("id", "patientId", "doctorId", "dateTime", "endsAt", "durationMinutes", "timeZone", "localDateTime")
    assert {name: appointment[name] for name in names} == {name: hold[name] for name in names}
    assert (appointment["status"], appointment["notes"], appointment["version"]) == ("PENDING", "Ü", 1)
    assert appointment["createdAt"] > hold["createdAt"]
    assert await get(client, doctor, appointment) == appointment
    (entry,) = await history(client, patient, appointment)
    assert (entry["version"], entry["before"], entry["after"]["durationMinutes"]) == (1, None, 45)
    assert await events_of(database, appointment) == [("AppointmentCreated", 1)]
    assert await listed(client, patient) == []
    assert (await release(client, patient, hold)).status_code == 404
    await changed(client, patient, appointment, dateTime=wire(at + HOUR))
    await book(client, clinic.patient(), doctor, at)


async def test_an_equal_booking_without_a_hold_differs_in_nothing_but_its_id(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor, autoConfirm=True)
    by_hold = await book(client, patient, doctor, at, holdId=(await held(client, patient, doctor, at))["id"])
    await changed(client, patient, by_hold, status="CANCELLED")
    plain = await book(client, patient, doctor, at)
    own = {"id", "createdAt", "updatedAt"}
    assert {name: by_hold[name] for name in by_hold.keys() - own} == {name: plain[name] for name in plain.keys() - own}
    assert plain["status"] == "CONFIRMED"


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("dateTime", {"dateTime": "2031-01-01T09:00:00Z"}),
        ("durationMinutes", {"durationMinutes": 60}),
        ("overbook", {"overbook": True, "reason": "urgent"}),
    ],
)
async def test_the_body_asks_for_what_is_held(
    client: httpx.AsyncClient, clinic: Clinic, path: str, other: dict[str, Any]
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    hold = await held(client, doctor, doctor, patientId=str(patient.id), durationMinutes=45)
    body = booking_of(hold, patientId=str(patient.id), **other)
    assert_refused(await post(client, doctor, body), 400, "invalid_request", path)
    other_patient = booking_of(hold, patientId=str(clinic.patient().id))
    assert_refused(await post(client, doctor, other_patient), 400, "invalid_request", "patientId")
    other_doctor = booking_of(hold, doctorId=str(clinic.doctor().id))
    assert_refused(await post(client, patient, other_doctor), 400, "invalid_request", "doctorId")
    for length in ({}, {"durationMinutes": 45}):
        assert await listed(client, patient) == [hold["id"]]
        appointment = (await post(client, patient, booking_of(hold, **length))).json()
        assert appointment["durationMinutes"] == 45
        await changed(client, patient, appointment, status="CANCELLED")
        hold = await held(client, doctor, doctor, patientId=str(patient.id), durationMinutes=45)


async def test_an_expired_hold_books_its_time_while_that_is_free(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    hold = await held(client, patient, doctor)
    await expire(database, hold, HALF_HOUR)
    appointment = (await post(client, patient, booking_of(hold))).json()
    assert (appointment["id"], appointment["status"]) == (hold["id"], "PENDING")


async def test_an_expired_hold_whose_time_is_taken_is_refused_with_alternatives(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor)
    hold = await held(client, patient, doctor, at)
    await expire(database, hold)
    await book(client, clinic.patient(), doctor, at)
    problem = assert_refused(await post(client, patient, booking_of(hold)), 409, "hold_expired")
    offered = [free["dateTime"] for free in problem["alternatives"]]
    assert offered == [wire(at + number * HALF_HOUR) for number in (1, 2, 3)]
    await book(client, patient, doctor, datetime.fromisoformat(offered[0]))


async def test_an_expired_hold_is_refused_where_the_patient_is_busy_meanwhile_or_the_time_is_overbooked(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    hold = await held(client, patient, doctor, at)
    await expire(database, hold)
    elsewhere = await book(client, patient, clinic.doctor(), at)
    assert_refused(await post(client, patient, booking_of(hold)), 409, "hold_expired")
    await changed(client, patient, elsewhere, status="CANCELLED")
    hold = await held(client, patient, doctor, at)
    more = {"patientId": str(clinic.patient().id), "overbook": True, "reason": "In pain"}
    await book(client, doctor, doctor, at, **more)
    await expire(database, hold)
    assert_refused(await post(client, patient, booking_of(hold)), 409, "hold_expired")


async def test_what_is_overbooked_onto_a_hold_leaves_it_its_time(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    hold = await held(client, patient, doctor, at)
    more = {"patientId": str(clinic.patient().id), "overbook": True, "reason": "In pain"}
    assert (await book(client, doctor, doctor, at, **more))["overbooked"]
    appointment = await post(client, patient, booking_of(hold))
    assert (appointment.status_code, appointment.json()["overbooked"]) == (201, False)


async def test_a_hold_that_is_not_the_callers_or_was_released_is_not_found(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, other = clinic.doctor(), clinic.patient(), clinic.patient()
    hold = await held(client, patient, doctor)
    for expired in (False, True):
        if expired:
            await expire(database, hold)
        assert_refused(await post(client, other, booking_of(hold)), 404, "not_found")
        elsewhere = request_for(other_doctor := clinic.doctor(), patientId=str(other.id), holdId=hold["id"])
        assert_refused(await post(client, other_doctor, elsewhere), 404, "not_found")
    assert_refused(await post(client, patient, request_for(doctor, holdId=str(uuid4()))), 404, "not_found")
    hold = await held(client, patient, doctor)
    await release(client, patient, hold)
    assert_refused(await post(client, patient, booking_of(hold)), 404, "not_found")
    assert_refused(await post(client, patient, booking_of(hold, holdId="x")), 400, "invalid_request", "holdId")


async def test_a_hold_books_once(client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection) -> None:
    doctor, patient, key = clinic.doctor(), clinic.patient(), {"Idempotency-Key": uuid4().hex}
    hold = await held(client, patient, doctor)
    headers, body = {**patient.headers, **key}, booking_of(hold)
    first = await client.post("/api/appointments", json=body, headers=headers)
    assert first.status_code == 201
    again = await client.post("/api/appointments", json=body, headers=headers)
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    assert_refused(await post(client, patient, body), 409, "hold_expired")
    await changed(client, patient, first.json(), status="CANCELLED")
    assert_refused(await post(client, patient, body), 404, "not_found")
    again = await client.post("/api/appointments", json=body, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    assert await database.fetchval("SELECT status FROM appointments WHERE id = $1", UUID(hold["id"])) == "CANCELLED"


async def test_doctors_and_admins_book_what_is_held_for_a_patient(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, admin = clinic.doctor(), clinic.patient(), clinic.admin()
    named: dict[str, Any] = {"patientId": str(patient.id)}
    for holder, booker in ((doctor, patient), (patient, doctor), (admin, admin)):
        hold = await held(client, holder, doctor, **named)
        appointment = await post(client, booker, booking_of(hold, **named))
        assert (appointment.status_code, appointment.json()["id"]) == (201, hold["id"])


async def test_the_notice_of_a_held_time_is_counted_from_when_it_was_held(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    all_day = [{"weekday": weekday, "start": "00:00", "end": "24:00"} for weekday in range(1, 8)]
    at = (datetime.now(UTC) + timedelta(days=1)).replace(hour=9, minute=0, second=0, microsecond=0)
    await open_hours(client, doctor, weekly=[{"hours": all_day}])
    hold, late = [await held(client, patient, doctor, at + number * HALF_HOUR) for number in range(2)]
    minutes = int((at - datetime.now(UTC)).total_seconds()) // 60 + 90
    await open_hours(client, doctor, weekly=[{"hours": all_day}], minimumNoticeMinutes=minutes)
    assert_refused(await post(client, patient, booking_of(hold)), 409, "too_soon")
    await database.execute("UPDATE appointments SET created_at = now() - interval '2 hours' WHERE id = $1", hold["id"])
    assert (await post(client, patient, booking_of(hold))).status_code == 201
    # An expired hold has no such claim.
    await database.execute("UPDATE appointments SET created_at = now() - interval '2 hours' WHERE id = $1", late["id"])
    await expire(database, late)
    problem = assert_refused(await post(client, patient, booking_of(late)), 409, "too_soon")
    assert len(problem["alternatives"]) == 3


async def test_a_hold_does_not_get_past_what_has_changed(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor)
    hold = await held(client, patient, doctor, at)
    evening = [{"weekday": weekday, "start": "18:00", "end": "19:00"} for weekday in range(1, 8)]
    await open_hours(client, doctor, weekly=[{"hours": evening}])
    problem = assert_refused(await post(client, patient, booking_of(hold)), 409, "outside_availability")
    assert problem["alternatives"][0]["dateTime"] == wire(at.replace(hour=18))
    await bus.tell(suspended(doctor.state, 2))
    assert_refused(await post(client, patient, booking_of(hold)), 409, "doctor_unavailable")
    await expire(database, hold)
    assert_refused(await post(client, patient, booking_of(hold)), 409, "doctor_unavailable")


async def test_a_time_that_the_patient_holds_is_moved_to_by_nobody(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    await held(client, patient, doctor, at)
    other = await book(client, clinic.patient(), doctor, at + HOUR)
    assert_refused(await change(client, doctor, other, dateTime=wire(at)), 409, "slot_taken")
