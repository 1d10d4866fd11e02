"""What booking erases of a user, and what it keeps."""

from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from msgspec.structs import replace
from uuid_utils.compat import uuid7

from services.booking.erasure import BATCH
from services.booking.models.metadata import metadata
from services.contracts.enums import Role
from services.contracts.events import UserUpdated
from services.standalone.databases import DatabaseUrls
from tests.booking.bus import Bus, erased, suspended
from tests.booking.clinic import (
    AUTH_TO_BOOKING,
    Clinic,
    assert_refused,
    book,
    change,
    events_of,
    free_time,
    get,
    history,
    post,
    request_for,
    starts_in_the_past,
)
from tests.support.streams import entry

NAME = "Unmistakable Patient"
TYPED = ("a typed note", "a typed reason", "what the doctor typed")


async def everything(database: asyncpg.Connection) -> str:
    rows: list[Any] = []
    for table in metadata.sorted_tables:
        rows += await database.fetch(f'SELECT * FROM "{table.name}"')
    return "".join(map(str, rows))


async def test_of_an_erased_patient_ids_and_facts_are_left(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.person(clinic.patient().state.role, name=NAME)
    note, reason, doctors_reason = TYPED
    past = await book(client, patient, doctor, notes=note)
    assert (await change(client, doctor, past, status="CONFIRMED")).status_code == 200
    await starts_in_the_past(database, past, timedelta(days=30))
    cancelled = await book(client, patient, doctor, notes=note)
    assert (await change(client, patient, cancelled, status="CANCELLED", reason=reason)).status_code == 200
    to_come = await client.post(
        "/api/appointments",
        json=request_for(doctor, notes=note),
        headers=patient.headers | {"Idempotency-Key": f"key-{uuid7()}"},
    )
    assert to_come.status_code == 201
    moved = await change(client, doctor, to_come.json(), durationMinutes=20, reason=doctors_reason)
    assert moved.status_code == 200, moved.text
    before = await everything(database)
    assert NAME in before
    assert all(text in before for text in TYPED)
    for _ in range(2):
        await bus.tell(erased(patient))
    left = await everything(database)
    assert [text for text in (NAME, *TYPED) if text in left] == []
    kept = await get(client, doctor, past)
    assert (kept["status"], kept["patientName"], kept["patientId"]) == ("CONFIRMED", "Erased user", str(patient.id))
    assert kept["dateTime"] < to_come.json()["dateTime"]
    told = await history(client, doctor, cancelled)
    assert [(one["after"]["status"], one["actorId"], one["reason"]) for one in told] == [
        ("PENDING", str(patient.id), None),
        ("CANCELLED", str(patient.id), None),
    ]
    ended = await get(client, doctor, to_come.json())
    assert (ended["status"], ended["cancellationReason"]) == ("CANCELLED", "patient_erased")
    assert (await events_of(database, to_come.json()))[-1] == ("AppointmentCancelled", 3)


async def test_a_stored_answer_brings_no_erased_name_or_note_back(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus, database: asyncpg.Connection
) -> None:
    """Neither to the doctor who booked for the patient, nor to the patient of an erased doctor."""
    doctor = clinic.person(Role.DOCTOR, name=NAME)
    patient = clinic.person(Role.PATIENT, name=NAME)
    other_doctor, other_patient = clinic.doctor(), clinic.patient()
    for caller, body, gone, code in (
        (
            other_doctor,
            request_for(other_doctor, patientId=str(patient.id), notes=TYPED[0]),
            patient,
            "patient_not_found",
        ),
        (other_patient, request_for(doctor), doctor, "doctor_not_found"),
    ):
        headers = caller.headers | {"Idempotency-Key": f"key-{uuid7()}"}
        answer = await client.post("/api/appointments", json=body, headers=headers)
        assert (answer.status_code, NAME in answer.text) == (201, True)
        await bus.tell(erased(gone))
        assert_refused(await client.post("/api/appointments", json=body, headers=headers), 404, code)
    bodies = await database.fetch("SELECT convert_from(body, 'UTF8') FROM idempotency_keys")
    assert not [row for row in bodies if NAME in row[0] or TYPED[0] in row[0]]


async def test_what_is_forgotten_is_forgotten_in_batches(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus, database: asyncpg.Connection
) -> None:
    """150,000 history rows in one statement would run into the time limit, at every attempt."""
    doctor, patient = clinic.doctor(), clinic.person(Role.PATIENT, name=NAME)
    first = await book(client, patient, doctor, notes=TYPED[0], durationMinutes=5)
    await database.execute(
        """
        INSERT INTO appointments (id, doctor_id, patient_id, status, during, blocked, overbooked, time_zone, wall_time,
                                  tzdata_version, notes, version, created_at, updated_at)
        SELECT gen_random_uuid(), doctor_id, patient_id, 'CANCELLED', during, blocked, false, 'UTC', wall_time,
               tzdata_version, $2, 1, now(), now()
        FROM appointments, generate_series(1, $3::int) WHERE id = $1
        """,
        first["id"],
        TYPED[0],
        BATCH + 1,
    )
    await database.execute(
        """
        INSERT INTO appointment_history (appointment_id, version, changed_at, actor_id, actor_role, reason, changes)
        SELECT id, number, now(), $1, 'PATIENT', $2, jsonb_build_object('notes', $2::text)
        FROM appointments, generate_series(11, 12) AS number WHERE patient_id = $1
        """,
        patient.id,
        TYPED[1],
    )
    await database.execute(
        """
        INSERT INTO appointment_history (appointment_id, version, changed_at, actor_id, actor_role, reason, changes)
        SELECT $1, number, now(), $2, 'PATIENT', $3, jsonb_build_object('cancellationReason', $3::text)
        FROM generate_series(13, $4::int) AS number
        """,
        first["id"],
        patient.id,
        TYPED[1],
        BATCH * 2,
    )
    await bus.tell(erased(patient))
    for table, texts in (("appointments", "notes"), ("appointment_history", "concat(reason, changes)")):
        condition = "patient_id = $1" if table == "appointments" else "actor_id = $1"
        query = f"SELECT count(*) FROM {table} WHERE {condition} AND {texts} LIKE '%a typed%'"
        assert await database.fetchval(query, patient.id) == 0
        in_one = (
            f"SELECT max(n) FROM (SELECT count(*) AS n FROM {table} WHERE {condition} GROUP BY xmin::text) AS batches"
        )
        assert 1 < await database.fetchval(in_one, patient.id) <= BATCH


async def test_an_erased_doctors_appointments_to_come_are_cancelled_and_the_patients_notes_stay(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus, database: asyncpg.Connection
) -> None:
    doctor, patient, admin = clinic.doctor(), clinic.patient(), clinic.admin()
    appointment = await book(client, patient, doctor, notes="mine")
    for by, key in ((doctor, "one"), (admin, "two")):
        leave = {"kind": "OFF", "from": "2030-07-08", "reason": TYPED[2]}
        headers = by.headers | {"Idempotency-Key": key}
        await client.post(f"/api/availability/{doctor.id}/exceptions", json=leave, headers=headers)
    assert (await everything(database)).count(TYPED[2]) == 4  # the exceptions and the stored answers
    await bus.tell(erased(doctor))
    left = await everything(database)
    assert TYPED[2] not in left
    assert "2030, 7, 8" in left
    assert await database.fetchval("SELECT count(*) FROM idempotency_keys WHERE user_id = $1", admin.id) == 0
    found = await get(client, patient, appointment)
    assert (found["status"], found["doctorName"], found["notes"]) == ("CANCELLED", "Erased user", "mine")
    assert_refused(await post(client, patient, request_for(doctor)), 404, "doctor_not_found")


async def test_nobody_books_for_an_erased_patient_and_they_do_nothing(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await book(client, patient, doctor)
    await bus.tell(erased(patient))
    refused = await post(client, doctor, request_for(doctor, free_time(), patientId=str(patient.id)))
    assert_refused(refused, 404, "patient_not_found")
    assert_refused(await post(client, patient, request_for(doctor)), 403, "account_suspended")


async def test_an_older_event_brings_no_name_back(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus, database: asyncpg.Connection
) -> None:
    patient = clinic.person(clinic.patient().state.role, name=NAME)
    older = UserUpdated(user=replace(patient.state, version=5))
    await bus.tell(erased(patient), older, suspended(patient.state, 6), older)
    rows = await database.fetch("SELECT full_name, role, version FROM users WHERE id = $1", patient.id)
    assert [tuple(row) for row in rows] == [("Erased user", "ERASED", 9)]


async def test_older_news_among_the_dead_letters_goes_too(
    clinic: Clinic, bus: Bus, database: asyncpg.Connection
) -> None:
    patient = clinic.person(clinic.patient().state.role, name=NAME)
    poison = entry(UserUpdated(user=patient.state))
    await bus.put({**poison, "type": "FromTheFuture", "payload": poison["payload"].replace("UserUpdated", "FromThe")})
    query = "SELECT count(*) FROM dead_letters WHERE fields->>'aggregateid' = $1"
    assert await database.fetchval(query, str(patient.id)) == 1
    await bus.tell(erased(patient))
    assert await database.fetchval(query, str(patient.id)) == 0


async def test_the_service_forgets_texts_and_still_changes_no_history(booking_database: DatabaseUrls) -> None:
    application = await asyncpg.connect(booking_database.application)
    await application.execute("SELECT forget_history(gen_random_uuid(), gen_random_uuid(), 0, 10)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.execute("UPDATE appointment_history SET reason = NULL")
    await application.close()


async def test_auth_is_told_of_a_patients_appointments_to_come(
    client: httpx.AsyncClient, clinic: Clinic, internal: httpx.AsyncClient
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(client, patient, doctor)
    path = f"/internal/patients/{patient.id}/appointments"
    assert (await internal.get(path)).status_code == 401
    token = {"Authorization": f"Bearer {AUTH_TO_BOOKING}"}
    answer = await internal.get(path, headers=token)
    assert answer.json() == {
        "items": [{"id": appointment["id"], "dateTime": appointment["dateTime"], "status": "PENDING"}],
    }
