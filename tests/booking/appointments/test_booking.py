"""POST /api/appointments"""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from services.contracts.enums import Role, UserStatus
from services.contracts.events import AppointmentCreated, decode_appointment_event
from tests.booking.clinic import (
    Clinic,
    assert_refused,
    book,
    free_time,
    get,
    history,
    post,
    request_for,
    wire,
)
from tests.support.canary import called

HALF_HOUR = timedelta(minutes=30)


async def test_a_patient_books_a_free_time(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    answer = await post(client, patient, request_for(doctor, at, notes="First"))
    assert answer.status_code == 201, answer.text
    appointment = answer.json()
    assert answer.headers["location"] == f"/api/appointments/{appointment['id']}"
    assert answer.headers["etag"] == '"1"'
    assert "idempotency-replayed" not in answer.headers
    assert UUID(appointment["id"]).version == 7
    assert (appointment["patientId"], appointment["doctorId"]) == (str(patient.id), str(doctor.id))
    assert (appointment["doctorName"], appointment["patientName"]) == (called("Ada"), called("Bo"))
    assert (appointment["dateTime"], appointment["endsAt"]) == (wire(at), wire(at + HALF_HOUR))
    assert (appointment["durationMinutes"], appointment["notes"], appointment["version"]) == (30, "First", 1)
    assert (appointment["status"], appointment["overbooked"], appointment["cancellationReason"]) == (
        "PENDING",
        False,
        None,
    )
    assert await get(client, patient, appointment) == await get(client, doctor, appointment) == appointment
    (entry,) = await history(client, patient, appointment)
    assert (entry["version"], entry["actorId"], entry["actorRole"]) == (1, str(patient.id), "PATIENT")
    assert entry["before"] is None
    assert (entry["after"]["status"], entry["after"]["dateTime"]) == ("PENDING", wire(at))


async def test_the_event_of_a_booking_has_ids_and_times_and_no_text(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    appointment = await book(client, patient, doctor, at, notes="Private")
    payload = await database.fetchval("SELECT payload::text FROM outbox WHERE aggregateid = $1", appointment["id"])
    event = decode_appointment_event(payload)
    assert isinstance(event, AppointmentCreated)
    assert (event.appointment_id, event.patient_id, event.doctor_id) == (UUID(appointment["id"]), patient.id, doctor.id)
    assert (event.starts_at, event.ends_at, event.version, event.actor_id) == (at, at + HALF_HOUR, 1, patient.id)
    assert "Private" not in payload
    assert "Example" not in payload


async def test_doctors_and_admins_book_for_a_patient(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for person in (doctor, clinic.admin()):
        appointment = await book(client, person, doctor, patientId=str(patient.id))
        assert appointment["patientId"] == str(patient.id)


async def test_a_patient_may_name_themselves(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient = clinic.patient()
    appointment = await book(client, patient, clinic.doctor(), patientId=str(patient.id))
    assert appointment["patientId"] == str(patient.id)


async def test_nobody_books_without_signing_in(client: httpx.AsyncClient, clinic: Clinic) -> None:
    assert_refused(await client.post("/api/appointments", json=request_for(clinic.doctor())), 401, "unauthorized")


async def test_who_may_not_book_for_whom(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for person, body in (
        (patient, request_for(doctor, patientId=str(clinic.patient().id))),
        (clinic.doctor(), request_for(doctor, patientId=str(patient.id))),
        (patient, request_for(doctor, overbook=True, reason="Urgent")),
    ):
        assert_refused(await post(client, person, body), 403, "forbidden")


async def test_staff_name_the_patient(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    for person in (doctor, clinic.admin()):
        assert_refused(await post(client, person, request_for(doctor)), 400, "invalid_request", "patientId")


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("dateTime", {"dateTime": "2099-12-01T09:30:00"}),
        ("dateTime", {"dateTime": "2020-12-01T09:30:00Z"}),
        ("dateTime", {"dateTime": "0001-01-01T00:00:00+14:00"}),
        ("dateTime", {"dateTime": "9999-12-31T23:59:59-14:00"}),
        ("dateTime", {"dateTime": 1900000000}),
        ("dateTime", {"dateTime": "2099-12-01T09:30:01Z"}),
        ("dateTime", {"dateTime": "2099-12-01T09:30:00.000001Z"}),
        ("dateTime", {"dateTime": "tomorrow"}),
        ("durationMinutes", {"durationMinutes": 4}),
        ("durationMinutes", {"durationMinutes": 481}),
        ("durationMinutes", {"durationMinutes": "30"}),
        ("durationMinutes", {"durationMinutes": 30.5}),
        ("doctorId", {"doctorId": "unknown"}),
        ("notes", {"notes": "a\x00b"}),
        ("notes", {"notes": "a" * 2001}),
        ("reason", {"reason": " \n "}),
        ("holdId", {"holdId": "x"}),
        ("status", {"status": "CONFIRMED"}),
    ],
)
async def test_a_malformed_request_is_refused_by_field(
    client: httpx.AsyncClient, clinic: Clinic, path: str, more: dict[str, Any]
) -> None:
    answer = await post(client, clinic.patient(), {**request_for(clinic.doctor()), **more})
    assert_refused(answer, 400, "invalid_request", path)


async def test_a_time_that_has_just_passed_is_refused(client: httpx.AsyncClient, clinic: Clinic) -> None:
    answer = await post(
        client, clinic.patient(), request_for(clinic.doctor(), datetime.now(UTC) - timedelta(seconds=1))
    )
    assert_refused(answer, 400, "invalid_request", "dateTime")


@pytest.mark.parametrize("at", ["9998-12-31T23:59:00-14:00", "9998-12-31T23:59:00Z", "2140-01-01T00:00:00Z"])
async def test_a_time_beyond_ten_years_is_too_far(client: httpx.AsyncClient, clinic: Clinic, at: str) -> None:
    answer = await post(client, clinic.patient(), {"doctorId": str(clinic.doctor().id), "dateTime": at})
    assert_refused(answer, 409, "too_far")


async def test_a_time_with_an_offset_is_the_same_instant_in_utc(client: httpx.AsyncClient, clinic: Clinic) -> None:
    at = free_time()
    there = at.astimezone(timezone(timedelta(hours=5))).isoformat()
    answer = await post(client, clinic.patient(), {"doctorId": str(clinic.doctor().id), "dateTime": there})
    assert answer.json()["dateTime"] == wire(at)


async def test_unknown_people_are_not_found(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, admin = clinic.doctor(), clinic.patient(), clinic.admin()
    unknown = patient._replace(id=uuid4())
    for not_a_doctor in (unknown, patient, clinic.doctor(UserStatus.PENDING)):
        assert_refused(await post(client, patient, request_for(not_a_doctor)), 404, "doctor_not_found")
    for not_a_patient in (unknown, doctor):
        body = request_for(doctor, patientId=str(not_a_patient.id))
        assert_refused(await post(client, admin, body), 404, "patient_not_found")


async def test_a_suspended_doctor_takes_no_bookings(client: httpx.AsyncClient, clinic: Clinic) -> None:
    answer = await post(client, clinic.patient(), request_for(clinic.doctor(UserStatus.SUSPENDED)))
    assert_refused(answer, 409, "doctor_unavailable")


async def test_a_suspended_account_books_nothing(client: httpx.AsyncClient, clinic: Clinic) -> None:
    suspended = clinic.person(Role.PATIENT, UserStatus.SUSPENDED)
    assert_refused(await post(client, suspended, request_for(clinic.doctor())), 403, "account_suspended")


async def test_a_role_that_no_longer_holds_is_refused(client: httpx.AsyncClient, clinic: Clinic, auth: Any) -> None:
    patient, doctor = clinic.patient(), clinic.doctor()
    await book(client, patient, doctor)
    once_admin = {"Authorization": f"Bearer {auth.issuer.token(patient.id, Role.ADMIN)}"}
    body = request_for(doctor, patientId=str(patient.id))
    assert_refused(await client.post("/api/appointments", json=body, headers=once_admin), 403, "forbidden")
