"""PATCH /api/appointments/{id} with another time or length"""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from services.booking.appointments import repository
from services.booking.appointments.changes import SYSTEM, Change
from services.contracts.enums import Role
from services.contracts.events import AppointmentRescheduled, decode_appointment_event
from services.kit.auth import Principal
from services.kit.metrics import create_registry
from services.kit.postgres.database import Connection, Database
from services.standalone.databases import DatabaseUrls
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


async def test_an_appointment_is_moved_in_place(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    appointment = await book(client, patient, doctor, at)
    later = at + HOUR
    after = await changed(client, patient, appointment, dateTime=wire(later), durationMinutes=60, reason="Traffic")
    assert (after["id"], after["version"], after["status"]) == (appointment["id"], 2, "PENDING")
    assert (after["dateTime"], after["endsAt"], after["durationMinutes"]) == (wire(later), wire(later + HOUR), 60)
    assert after["localDateTime"] != appointment["localDateTime"]
    assert await get(client, doctor, appointment) == after
    entry = (await history(client, doctor, appointment))[1]
    assert (entry["before"]["dateTime"], entry["after"]["dateTime"]) == (wire(at), wire(later))
    assert entry["reason"] == "Traffic"
    payload = await database.fetchval(
        "SELECT payload::text FROM outbox WHERE aggregateid = $1 AND version = 2", appointment["id"]
    )
    event = decode_appointment_event(payload)
    assert isinstance(event, AppointmentRescheduled)
    assert (event.previous_starts_at, event.starts_at) == (at, later)
    await book(client, clinic.patient(), doctor, at)


async def test_the_length_alone_can_change(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, at = clinic.doctor(), free_time()
    appointment = await book(client, clinic.patient(), doctor, at)
    after = await changed(client, doctor, appointment, durationMinutes=45)
    assert (after["dateTime"], after["endsAt"]) == (wire(at), wire(at + timedelta(minutes=45)))


async def test_a_confirmed_appointment_that_the_patient_moves_waits_for_the_doctor_again(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for person, status in ((patient, "PENDING"), (doctor, "CONFIRMED"), (clinic.admin(), "CONFIRMED")):
        appointment = await appointment_that_is("CONFIRMED", client, database, doctor, patient)
        assert (await changed(client, person, appointment, dateTime=wire(free_time())))["status"] == status


async def test_moving_to_the_same_time_changes_nothing(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, at = clinic.patient(), free_time()
    appointment = await book(client, patient, clinic.doctor(), at)
    there = at.astimezone(datetime.now().astimezone().tzinfo).isoformat()
    assert await changed(client, patient, appointment, dateTime=there, durationMinutes=30) == appointment


async def test_an_appointment_may_overlap_its_own_old_place(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, at = clinic.patient(), free_time()
    appointment = await book(client, patient, clinic.doctor(), at)
    await changed(client, patient, appointment, dateTime=wire(at + timedelta(minutes=10)))


async def test_a_move_obeys_the_rules_of_a_booking(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    appointment = await book(client, patient, doctor, at)
    await book(client, clinic.patient(), doctor, at + HOUR)
    problem = assert_refused(await change(client, patient, appointment, dateTime=wire(at + HOUR)), 409, "slot_taken")
    assert problem["alternatives"][0]["dateTime"] == wire(at + HOUR + timedelta(minutes=30))
    await book(client, patient, clinic.doctor(), at + 2 * HOUR)
    assert_refused(await change(client, doctor, appointment, dateTime=wire(at + 2 * HOUR)), 409, "patient_busy")
    assert_refused(await change(client, doctor, appointment, dateTime="2140-01-01T00:00:00Z"), 409, "too_far")
    await database.execute("UPDATE users SET status = 'SUSPENDED' WHERE id = $1", doctor.id)
    assert_refused(await change(client, patient, appointment, dateTime=wire(at + 3 * HOUR)), 409, "doctor_unavailable")
    assert await get(client, patient, appointment) == appointment


async def test_what_has_begun_or_ended_is_not_moved(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for status in FINAL:
        appointment = await appointment_that_is(status, client, database, doctor, patient)
        assert_refused(await change(client, doctor, appointment, dateTime=wire(free_time())), 409, "illegal_transition")
    appointment = await appointment_that_is("CONFIRMED", client, database, doctor, patient)
    await starts_in_the_past(database, appointment, 2 * HOUR)
    assert_refused(await change(client, doctor, appointment, dateTime=wire(free_time())), 409, "already_started")


async def test_an_overbooked_appointment_that_moves_to_a_free_time_is_an_ordinary_one(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, at = clinic.doctor(), free_time()
    await book(client, clinic.patient(), doctor, at)
    more = {"patientId": str(clinic.patient().id), "overbook": True, "reason": "Urgent"}
    appointment = await book(client, doctor, doctor, at, **more)
    assert (await changed(client, doctor, appointment, dateTime=wire(at + HOUR)))["overbooked"] is False


@pytest.mark.parametrize("many", [False, True])
async def test_a_change_from_another_version_fails_and_writes_nothing(
    client: httpx.AsyncClient,
    clinic: Clinic,
    database: asyncpg.Connection,
    booking_database: DatabaseUrls,
    many: bool,
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(client, patient, doctor)
    principal = Principal(id=doctor.id, role=Role.DOCTOR, session_id=uuid4(), expires_at=0)

    async def change_from_a_version_that_is_gone(connection: Connection) -> None:
        (before, now, _), _, _ = await repository.get_for_update(connection, principal, UUID(appointment["id"]))
        overtaken = replace(before, version=before.version + 2, updated_at=now, notes="Overtaken")
        stale = Change(replace(before, version=before.version + 1), overtaken, SYSTEM)
        await (repository.write_all(connection, [stale]) if many else repository.write(connection, stale))

    store = Database(booking_database.application, registry=create_registry())
    await store.open()
    with pytest.raises(RuntimeError, match="another version"):
        await store.transact(change_from_a_version_that_is_gone)
    await store.close()
    assert await get(client, patient, appointment) == appointment
    assert await events_of(database, appointment) == [("AppointmentCreated", 1)]
