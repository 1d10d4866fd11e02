"""PATCH /api/appointments/{id}"""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from services.contracts.events import AppointmentCancelled, decode_appointment_event
from tests.booking.clinic import (
    Clinic,
    appointment_that_is,
    assert_refused,
    book,
    change,
    changed,
    events_of,
    free_time,
    get,
    history,
    starts_in_the_past,
    wire,
)

HOUR = timedelta(hours=1)
FINAL = ["CANCELLED", "COMPLETED", "NO_SHOW"]


async def test_a_doctor_confirms(client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(client, patient, doctor)
    after = await changed(client, doctor, appointment, status="CONFIRMED")
    assert (after["status"], after["version"]) == ("CONFIRMED", 2)
    assert after["updatedAt"] > appointment["updatedAt"]
    assert await get(client, patient, appointment) == after
    entry = (await history(client, patient, appointment))[1]
    assert (entry["version"], entry["actorId"], entry["actorRole"]) == (2, str(doctor.id), "DOCTOR")
    assert (entry["before"]["status"], entry["after"]["status"]) == ("PENDING", "CONFIRMED")
    assert await events_of(database, appointment) == [("AppointmentCreated", 1), ("AppointmentUpdated", 2)]


async def test_either_party_and_an_admin_cancel(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for person in (doctor, patient, clinic.admin()):
        appointment = await book(client, patient, doctor)
        after = await changed(client, person, appointment, status="CANCELLED", reason="Ill")
        assert (after["status"], after["cancellationReason"]) == ("CANCELLED", "Ill")
        assert (await history(client, patient, appointment))[1]["reason"] == "Ill"
        assert await events_of(database, appointment) == [("AppointmentCreated", 1), ("AppointmentCancelled", 2)]
        payload = await database.fetchval(
            "SELECT payload::text FROM outbox WHERE aggregateid = $1 AND version = 2", appointment["id"]
        )
        event = decode_appointment_event(payload)
        assert isinstance(event, AppointmentCancelled)
        assert event.reason_code is None
        assert "Ill" not in payload


@pytest.mark.parametrize("status", ["PENDING", "CONFIRMED", *FINAL])
@pytest.mark.parametrize("to", ["PENDING", "CONFIRMED", *FINAL])
async def test_the_doctor_follows_the_status_machine(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, status: str, to: str
) -> None:
    doctor = clinic.doctor()
    appointment = await appointment_that_is(status, client, database, doctor, clinic.patient())
    answer = await change(client, doctor, appointment, status=to)
    if status == to:
        assert (answer.status_code, answer.json()) == (200, await get(client, doctor, appointment))
        assert answer.json()["version"] == appointment["version"]
    elif (status, to) in {("PENDING", "CONFIRMED"), ("PENDING", "CANCELLED"), ("CONFIRMED", "CANCELLED")}:
        assert (answer.status_code, answer.json()["status"]) == (200, to)
    else:
        # COMPLETED and NO_SHOW of a CONFIRMED appointment that is still to come are among these.
        assert_refused(answer, 409, "illegal_transition")


@pytest.mark.parametrize("to", ["COMPLETED", "NO_SHOW"])
async def test_how_it_went_is_told_after_the_start(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, to: str
) -> None:
    doctor = clinic.doctor()
    appointment = await appointment_that_is(to, client, database, doctor, clinic.patient())
    assert appointment["status"] == to
    assert (await events_of(database, appointment))[-1] == ("AppointmentUpdated", 3)


async def test_a_patient_may_only_cancel(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(client, patient, doctor)
    for status in ("CONFIRMED", "COMPLETED", "NO_SHOW"):
        assert_refused(await change(client, patient, appointment, status=status), 403, "forbidden")
    assert await changed(client, patient, appointment, status="PENDING") == appointment


async def test_a_patient_cannot_cancel_what_has_begun(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await appointment_that_is("CONFIRMED", client, database, doctor, patient)
    await starts_in_the_past(database, appointment, HOUR)
    assert_refused(await change(client, patient, appointment, status="CANCELLED"), 409, "cancellation_too_late")
    assert (await changed(client, doctor, appointment, status="CANCELLED"))["status"] == "CANCELLED"


async def test_the_present_status_changes_nothing(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await appointment_that_is("CONFIRMED", client, database, doctor, patient)
    for person in (patient, doctor, clinic.admin()):
        assert await changed(client, person, appointment, status="CONFIRMED") == appointment
        assert await changed(client, person, appointment) == appointment
    assert len(await events_of(database, appointment)) == len(await history(client, doctor, appointment)) == 2


async def test_what_somebody_may_not_see_they_cannot_change(client: httpx.AsyncClient, clinic: Clinic) -> None:
    appointment = await book(client, clinic.patient(), clinic.doctor())
    for person in (clinic.patient(), clinic.doctor()):
        for update in ({"status": "CANCELLED"}, {"dateTime": wire(free_time())}):
            assert_refused(await change(client, person, appointment, **update), 404, "not_found")
    assert_refused(await change(client, clinic.admin(), {"id": uuid4()}, status="CANCELLED"), 404, "not_found")
    assert_refused(await change(client, clinic.admin(), {"id": "1"}, status="CANCELLED"), 404, "not_found")
    anonymous = await client.patch(f"/api/appointments/{appointment['id']}", json={"status": "CANCELLED"})
    assert_refused(anonymous, 401, "unauthorized")


@pytest.mark.parametrize(
    ("path", "update"),
    [
        ("status", {"status": "CONFIRMED", "dateTime": "2099-01-01T00:00:00Z"}),
        ("status", {"status": "CONFIRMED", "durationMinutes": 30}),
        ("status", {"status": "HELD"}),
        ("status", {"status": None}),
        ("reason", {"reason": "For nothing"}),
        ("reason", {"status": "CANCELLED", "reason": None}),
        ("dateTime", {"dateTime": "2020-01-01T00:00:00Z"}),
        ("dateTime", {"dateTime": "1990-01-01T00:00:00Z"}),
        ("dateTime", {"dateTime": "2099-01-01T00:00:00"}),
        ("durationMinutes", {"durationMinutes": 0}),
        ("dateTime", {"dateTime": "2099-12-01T09:30:30Z"}),
        ("patientId", {"patientId": str(uuid4())}),
    ],
)
async def test_a_malformed_update_is_refused_by_field(
    client: httpx.AsyncClient, clinic: Clinic, path: str, update: dict[str, Any]
) -> None:
    doctor = clinic.doctor()
    appointment = await book(client, clinic.patient(), doctor)
    assert_refused(await change(client, doctor, appointment, **update), 400, "invalid_request", path)
    assert await get(client, doctor, appointment) == appointment


async def test_a_suspended_account_changes_nothing(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    patient = clinic.patient()
    appointment = await book(client, patient, clinic.doctor())
    await database.execute("UPDATE users SET status = 'SUSPENDED' WHERE id = $1", patient.id)
    assert_refused(await change(client, patient, appointment, status="CANCELLED"), 403, "account_suspended")


async def test_notes_are_changed_and_cleared_by_either_party_until_the_start(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await appointment_that_is("CONFIRMED", client, database, doctor, patient)
    assert (await changed(client, patient, appointment, notes="Bring the papers"))["notes"] == "Bring the papers"
    assert (await changed(client, doctor, appointment, notes=None))["notes"] is None
    assert [version for _, version in await events_of(database, appointment)] == [1, 2, 3, 4]
    await starts_in_the_past(database, appointment, HOUR)
    assert_refused(await change(client, doctor, appointment, notes="Late"), 409, "already_started")
    after = await changed(client, doctor, appointment, notes=None, status="COMPLETED")
    assert after["status"] == "COMPLETED"


async def test_an_admin_corrects_a_final_status_with_a_reason(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, admin = clinic.doctor(), clinic.patient(), clinic.admin()
    appointment = await appointment_that_is("NO_SHOW", client, database, doctor, patient)
    assert_refused(await change(client, admin, appointment, status="COMPLETED"), 400, "invalid_request", "reason")
    after = await changed(client, admin, appointment, status="COMPLETED", reason="Was there")
    assert after["status"] == "COMPLETED"
    entry = (await history(client, admin, appointment))[-1]
    assert (entry["actorRole"], entry["reason"]) == ("ADMIN", "Was there")


async def test_a_correction_that_reopens_an_appointment_needs_its_slot_to_be_free(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, admin, at = clinic.doctor(), clinic.patient(), clinic.admin(), free_time()
    appointment = await book(client, patient, doctor, at)
    await changed(client, patient, appointment, status="CANCELLED", reason="Ill")
    other = await book(client, clinic.patient(), doctor, at)
    reopen = {"status": "CONFIRMED", "reason": "By mistake"}
    assert_refused(await change(client, admin, appointment, **reopen), 409, "slot_taken")
    await changed(client, doctor, other, status="CANCELLED")
    after = await changed(client, admin, appointment, **reopen)
    assert (after["status"], after["cancellationReason"], after["dateTime"]) == ("CONFIRMED", None, wire(at))
    assert_refused(await change(client, admin, appointment, status="PENDING", reason="x"), 409, "illegal_transition")


async def test_a_request_whose_time_has_passed_is_not_reopened(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    admin = clinic.admin()
    appointment = await appointment_that_is("NO_SHOW", client, database, clinic.doctor(), clinic.patient())
    answer = await change(client, admin, appointment, status="PENDING", reason="By mistake")
    assert_refused(answer, 409, "illegal_transition")


async def test_an_admin_confirms_as_the_doctor_does(client: httpx.AsyncClient, clinic: Clinic) -> None:
    appointment = await book(client, clinic.patient(), clinic.doctor())
    assert (await changed(client, clinic.admin(), appointment, status="CONFIRMED"))["version"] == 2
