"""POST /api/appointments"""

import asyncio
from collections.abc import Callable, Coroutine
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
    change,
    free_time,
    get,
    history,
    hold,
    post,
    repeat,
    somebody_waits,
    wire,
    wish,
)
from tests.support.canary import called
from tests.support.metrics import total
from tests.support.waiting import eventually

HALF_HOUR = timedelta(minutes=30)


async def test_a_patient_books_a_free_time(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    answer = await post(client, patient, wish(doctor, at, notes="First"))
    assert answer.status_code == 201, answer.text
    visit = answer.json()
    assert answer.headers["location"] == f"/api/appointments/{visit['id']}"
    assert answer.headers["etag"] == '"1"'
    assert "idempotency-replayed" not in answer.headers
    assert UUID(visit["id"]).version == 7
    assert (visit["patientId"], visit["doctorId"]) == (str(patient.id), str(doctor.id))
    assert (visit["doctorName"], visit["patientName"]) == (called("Ada"), called("Bo"))
    assert (visit["dateTime"], visit["endsAt"]) == (wire(at), wire(at + HALF_HOUR))
    assert (visit["durationMinutes"], visit["notes"], visit["version"]) == (30, "First", 1)
    assert (visit["status"], visit["overbooked"], visit["cancellationReason"]) == ("PENDING", False, None)
    assert await get(client, patient, visit) == await get(client, doctor, visit) == visit
    (entry,) = await history(client, patient, visit)
    assert (entry["version"], entry["actorId"], entry["actorRole"]) == (1, str(patient.id), "PATIENT")
    assert entry["before"] is None
    assert (entry["after"]["status"], entry["after"]["dateTime"]) == ("PENDING", wire(at))


async def test_the_event_of_a_booking_has_ids_and_times_and_no_text(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    visit = await book(client, patient, doctor, at, notes="Private")
    payload = await database.fetchval("SELECT payload::text FROM outbox WHERE aggregateid = $1", visit["id"])
    event = decode_appointment_event(payload)
    assert isinstance(event, AppointmentCreated)
    assert (event.appointment_id, event.patient_id, event.doctor_id) == (UUID(visit["id"]), patient.id, doctor.id)
    assert (event.starts_at, event.ends_at, event.version, event.actor_id) == (at, at + HALF_HOUR, 1, patient.id)
    assert "Private" not in payload
    assert "Example" not in payload


async def test_doctors_and_admins_book_for_a_patient(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for person in (doctor, clinic.admin()):
        visit = await book(client, person, doctor, patientId=str(patient.id))
        assert visit["patientId"] == str(patient.id)


async def test_a_patient_may_name_themselves(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient = clinic.patient()
    visit = await book(client, patient, clinic.doctor(), patientId=str(patient.id))
    assert visit["patientId"] == str(patient.id)


async def test_nobody_books_without_signing_in(client: httpx.AsyncClient, clinic: Clinic) -> None:
    assert_refused(await client.post("/api/appointments", json=wish(clinic.doctor())), 401, "unauthorized")


async def test_who_may_not_book_for_whom(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for person, body in (
        (patient, wish(doctor, patientId=str(clinic.patient().id))),
        (clinic.doctor(), wish(doctor, patientId=str(patient.id))),
        (patient, wish(doctor, overbook=True, reason="Urgent")),
    ):
        assert_refused(await post(client, person, body), 403, "forbidden")


async def test_staff_name_the_patient(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    for person in (doctor, clinic.admin()):
        assert_refused(await post(client, person, wish(doctor)), 400, "invalid_request", "patientId")


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("dateTime", {"dateTime": "2099-12-01T09:30:00"}),
        ("dateTime", {"dateTime": "2020-12-01T09:30:00Z"}),
        ("dateTime", {"dateTime": "0001-01-01T00:00:00+14:00"}),
        ("dateTime", {"dateTime": "9999-12-31T23:59:59-14:00"}),
        ("dateTime", {"dateTime": 1900000000}),
        ("dateTime", {"dateTime": "tomorrow"}),
        ("durationMinutes", {"durationMinutes": 4}),
        ("durationMinutes", {"durationMinutes": 481}),
        ("durationMinutes", {"durationMinutes": "30"}),
        ("durationMinutes", {"durationMinutes": 30.5}),
        ("doctorId", {"doctorId": "nobody"}),
        ("notes", {"notes": "a\x00b"}),
        ("notes", {"notes": "a" * 2001}),
        ("reason", {"reason": " \n "}),
        ("holdId", {"holdId": str(uuid4())}),
        ("status", {"status": "CONFIRMED"}),
    ],
)
async def test_a_malformed_wish_is_refused_by_field(
    client: httpx.AsyncClient, clinic: Clinic, path: str, more: dict[str, Any]
) -> None:
    answer = await post(client, clinic.patient(), {**wish(clinic.doctor()), **more})
    assert_refused(answer, 400, "invalid_request", path)


async def test_a_time_that_has_just_passed_is_refused(client: httpx.AsyncClient, clinic: Clinic) -> None:
    answer = await post(client, clinic.patient(), wish(clinic.doctor(), datetime.now(UTC) - timedelta(seconds=1)))
    assert_refused(answer, 400, "invalid_request", "dateTime")


@pytest.mark.parametrize("at", ["9998-12-31T23:59:59-14:00", "9998-12-31T23:59:59Z", "2140-01-01T00:00:00Z"])
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
    nobody = patient._replace(id=uuid4())
    for not_a_doctor in (nobody, patient, clinic.doctor(UserStatus.PENDING)):
        assert_refused(await post(client, patient, wish(not_a_doctor)), 404, "doctor_not_found")
    for not_a_patient in (nobody, doctor):
        body = wish(doctor, patientId=str(not_a_patient.id))
        assert_refused(await post(client, admin, body), 404, "patient_not_found")


async def test_a_suspended_doctor_takes_no_bookings(client: httpx.AsyncClient, clinic: Clinic) -> None:
    answer = await post(client, clinic.patient(), wish(clinic.doctor(UserStatus.SUSPENDED)))
    assert_refused(answer, 409, "doctor_unavailable")


async def test_a_suspended_account_books_nothing(client: httpx.AsyncClient, clinic: Clinic) -> None:
    suspended = clinic.person(Role.PATIENT, UserStatus.SUSPENDED)
    assert_refused(await post(client, suspended, wish(clinic.doctor())), 403, "account_suspended")


async def test_a_role_that_no_longer_holds_is_refused(client: httpx.AsyncClient, clinic: Clinic, auth: Any) -> None:
    patient, doctor = clinic.patient(), clinic.doctor()
    await book(client, patient, doctor)
    once_admin = {"Authorization": f"Bearer {auth.issuer.token(patient.id, Role.ADMIN)}"}
    body = wish(doctor, patientId=str(patient.id))
    assert_refused(await client.post("/api/appointments", json=body, headers=once_admin), 403, "forbidden")


async def test_a_taken_slot_is_refused_with_the_next_free_ones(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    await book(client, clinic.patient(), doctor, at, durationMinutes=45)
    await book(client, clinic.patient(), doctor, at + timedelta(hours=1))
    await book(client, patient, clinic.doctor(), at + timedelta(hours=2))
    problem = assert_refused(await post(client, patient, wish(doctor, at)), 409, "slot_taken")
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
    body = wish(doctor, at + timedelta(minutes=offset), durationMinutes=minutes)
    assert (await post(client, clinic.patient(), body)).status_code == (409 if taken else 201)


async def test_a_patient_is_never_in_two_places_at_once(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, doctor, at = clinic.patient(), clinic.doctor(), free_time()
    await book(client, patient, clinic.doctor(), at)
    assert_refused(await post(client, patient, wish(doctor, at)), 409, "patient_busy")
    body = wish(doctor, at, patientId=str(patient.id), overbook=True, reason="Urgent")
    assert_refused(await post(client, doctor, body), 409, "patient_busy")


async def test_the_patient_being_busy_is_named_before_the_slot(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, doctor, at = clinic.patient(), clinic.doctor(), free_time()
    await book(client, patient, doctor, at)
    assert_refused(await post(client, patient, wish(doctor, at)), 409, "patient_busy")


async def test_overbooking_needs_a_reason_and_shows(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, at = clinic.doctor(), free_time()
    await book(client, clinic.patient(), doctor, at)
    body = wish(doctor, at, patientId=str(clinic.patient().id), overbook=True)
    assert_refused(await post(client, doctor, body), 400, "invalid_request", "reason")
    visit = (await post(client, doctor, {**body, "reason": "Urgent"})).json()
    assert visit["overbooked"] is True
    (entry,) = await history(client, doctor, visit)
    assert (entry["reason"], entry["after"]["overbooked"]) == ("Urgent", True)


async def test_an_overbooked_visit_is_in_the_way_of_later_ones(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, at = clinic.doctor(), free_time()
    first = await book(client, clinic.patient(), doctor, at)
    await book(client, doctor, doctor, at, patientId=str(clinic.patient().id), overbook=True, reason="Urgent")
    assert (await change(client, doctor, first, status="CANCELLED")).status_code == 200
    assert_refused(await post(client, clinic.patient(), wish(doctor, at)), 409, "slot_taken")


async def test_overbooking_a_free_time_is_an_ordinary_booking(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    visit = await book(client, doctor, doctor, patientId=str(clinic.patient().id), overbook=True, reason="Just in case")
    assert visit["overbooked"] is False


async def test_a_cancelled_visit_makes_room(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    visit = await book(client, patient, doctor, at)
    assert (await change(client, patient, visit, status="CANCELLED")).status_code == 200
    await book(client, clinic.patient(), doctor, at)


async def test_a_held_slot_is_taken_until_the_hold_dies(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, at = clinic.doctor(), free_time()
    held = await hold(database, doctor, clinic.patient(), at, "1 minute")
    assert_refused(await post(client, clinic.patient(), wish(doctor, at)), 409, "slot_taken")
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
    """An uncommitted row is invisible to the look; once it is committed, the look of the second try names it."""
    doctor, patient = clinic.doctor(), clinic.patient()
    visit = await book(client, patient, doctor)

    async def waits() -> bool:
        return await somebody_waits(database)

    async def refusals() -> float:
        return total((await internal.get("/metrics")).text, "booking_unseen_conflicts_total")

    claims: list[Callable[[datetime], Coroutine[Any, Any, httpx.Response]]] = [
        lambda at: post(client, clinic.patient(), wish(doctor, at)),
        lambda at: change(client, patient, visit, dateTime=wire(at)),
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


async def test_no_time_is_offered_beyond_the_visits_that_were_read(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    """Two days of one visit after another, of which the first 500 are read, and a gap after the 600th."""
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    visit = await book(client, clinic.patient(), doctor, at, durationMinutes=5)
    await repeat(database, visit, 599, every=timedelta(minutes=5))
    problem = assert_refused(await post(client, patient, wish(doctor, at)), 409, "slot_taken")
    assert problem["alternatives"] == []
