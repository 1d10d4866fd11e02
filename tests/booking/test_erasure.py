"""What booking forgets of somebody who was erased, and what it keeps."""

from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from msgspec.structs import replace
from uuid_utils.compat import uuid7

from services.booking.models import metadata
from services.contracts.enums import UserStatus
from services.contracts.events import UserErased, UserState, UserUpdated
from services.standalone.databases import DatabaseUrls
from tests.booking.bus import Bus, suspended
from tests.booking.clinic import (
    AUTH_TO_BOOKING,
    Clinic,
    Person,
    assert_refused,
    book,
    change,
    events_of,
    free_time,
    get,
    history,
    post,
    starts_in_the_past,
    wish,
)
from tests.support.streams import entry

NAME = "Unmistakable Patient"
TYPED = ("a typed note", "a typed reason", "what the doctor typed")


def erased(person: Person, version: int = 9) -> UserErased:
    return UserErased(
        user=UserState(
            id=person.id,
            full_name="Erased user",
            role=person.state.role,
            status=UserStatus.SUSPENDED,
            time_zone="UTC",
            locale="en",
            email=f"{person.id}@erased.invalid",
            version=version,
            erased=True,
        )
    )


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
        json=wish(doctor, notes=note),
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


async def test_an_erased_doctors_visits_to_come_are_cancelled_and_the_patients_notes_stay(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    visit = await book(client, patient, doctor, notes="mine")
    await bus.tell(erased(doctor))
    found = await get(client, patient, visit)
    assert (found["status"], found["doctorName"], found["notes"]) == ("CANCELLED", "Erased user", "mine")
    assert_refused(await post(client, patient, wish(doctor)), 404, "doctor_not_found")


async def test_nobody_books_for_an_erased_patient_and_they_do_nothing(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await book(client, patient, doctor)
    await bus.tell(erased(patient))
    refused = await post(client, doctor, wish(doctor, free_time(), patientId=str(patient.id)))
    assert_refused(refused, 404, "patient_not_found")
    assert_refused(await post(client, patient, wish(doctor)), 403, "account_suspended")


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
    await application.execute("SELECT forget_typed_texts(gen_random_uuid())")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.execute("UPDATE appointment_history SET reason = NULL")
    await application.close()


async def test_auth_is_told_of_a_patients_visits_to_come(
    client: httpx.AsyncClient, clinic: Clinic, internal: httpx.AsyncClient
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    visit = await book(client, patient, doctor)
    path = f"/internal/patients/{patient.id}/appointments"
    assert (await internal.get(path)).status_code == 401
    token = {"Authorization": f"Bearer {AUTH_TO_BOOKING}"}
    answer = await internal.get(path, headers=token)
    assert answer.json() == {
        "items": [{"id": visit["id"], "dateTime": visit["dateTime"], "status": "PENDING"}],
    }
