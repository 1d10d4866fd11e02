"""POST /api/holds: a time that only one patient can book for some minutes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from services.booking.app import create
from services.contracts.enums import UserStatus
from services.standalone.databases import DatabaseUrls
from tests.booking.clinic import (
    Clinic,
    Person,
    assert_refused,
    book,
    free_time,
    post,
    request_for,
    settings_of,
    wire,
)
from tests.booking.holds.holding import HALF_HOUR, HOUR, expire, held, hold_of, listed, open_hours, post_hold, release
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of

COUNT = "SELECT count(*) FROM appointments WHERE id = $1"


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def starts(client: httpx.AsyncClient, doctor: Person, day: datetime) -> list[str]:
    query = {"doctorId": str(doctor.id), "from": wire(day), "to": wire(day + HOUR)}
    answer = await client.get("/api/slots", params=query)
    return [slot["startsAt"] for slot in answer.json()["items"]]


async def test_a_held_time_is_the_patients_alone(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, other, at = clinic.doctor(), clinic.patient(), clinic.patient(), free_time()
    await open_hours(
        client,
        doctor,
        timeZone="Asia/Kolkata",
        weekly=[{"hours": [{"weekday": weekday, "start": "00:00", "end": "24:00"} for weekday in range(1, 8)]}],
    )
    answer = await post_hold(client, patient, hold_of(doctor, at))
    hold = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, f"/api/holds/{hold['id']}")
    assert UUID(hold["id"]).version == 7
    length = instant(hold["expiresAt"]) - instant(hold["createdAt"])
    assert {**hold, "id": "", "expiresAt": length, "createdAt": ""} == {
        "id": "",
        "patientId": str(patient.id),
        "doctorId": str(doctor.id),
        "typeId": None,
        "dateTime": wire(at),
        "endsAt": wire(at + HALF_HOUR),
        "durationMinutes": 30,
        "timeZone": "Asia/Kolkata",
        "localDateTime": (at + timedelta(hours=5, minutes=30)).replace(tzinfo=None).isoformat(),
        "expiresAt": timedelta(minutes=5),
        "createdAt": "",
    }
    problem = assert_refused(await post(client, other, request_for(doctor, at)), 409, "slot_taken")
    assert problem["alternatives"][0]["dateTime"] == wire(at + HALF_HOUR)
    assert_refused(await post_hold(client, other, hold_of(doctor, at)), 409, "slot_taken")
    assert await starts(client, doctor, at) == [wire(at + HALF_HOUR)]


async def test_case_8_a_hold_is_over_at_its_own_instant_with_nothing_sweeping(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor)
    hold = await held(client, patient, doctor, at)
    await expire(database, hold)
    assert await starts(client, doctor, at) == [wire(at), wire(at + HALF_HOUR)]
    assert await listed(client, patient) == []
    await book(client, clinic.patient(), doctor, at)
    assert await database.fetchval(COUNT, UUID(hold["id"])) == 0


async def test_a_hold_lasts_as_long_as_it_says_and_never_beyond_the_start(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor = clinic.doctor()
    hold = await held(client, clinic.patient(), doctor, holdMinutes=15)
    assert instant(hold["expiresAt"]) - instant(hold["createdAt"]) == timedelta(minutes=15)
    soon = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=3)
    hold = await held(client, clinic.patient(), doctor, soon, holdMinutes=15)
    assert hold["expiresAt"] == hold["dateTime"] == wire(soon)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("holdMinutes", {"holdMinutes": 16}),
        ("holdMinutes", {"holdMinutes": 0}),
        ("durationMinutes", {"durationMinutes": 4}),
        ("dateTime", {"dateTime": "2020-01-01T09:00:00Z"}),
        ("dateTime", {"dateTime": "2030-01-01T09:00:00"}),
        ("doctorId", {"doctorId": "x"}),
        ("notes", {"notes": "None before it is booked"}),
        ("patientId", {"patientId": "x"}),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_path(
    client: httpx.AsyncClient, clinic: Clinic, path: str, more: dict[str, Any]
) -> None:
    body = hold_of(clinic.doctor()) | more
    assert_refused(await post_hold(client, clinic.patient(), body), 400, "invalid_request", path)


async def test_a_hold_keeps_to_the_rules_of_a_booking(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor, minimumNoticeMinutes=0, horizonDays=3650)
    problem = assert_refused(await post_hold(client, patient, hold_of(doctor, at - HOUR)), 409, "outside_availability")
    assert problem["alternatives"][0]["dateTime"] == wire(at)
    assert_refused(
        await post_hold(client, patient, hold_of(doctor, at + timedelta(minutes=15))), 409, "outside_availability"
    )
    await book(client, patient, clinic.doctor(), at)
    assert_refused(await post_hold(client, patient, hold_of(doctor, at)), 409, "patient_busy")
    await open_hours(client, doctor, minimumNoticeMinutes=43_200, horizonDays=40)
    soon = (datetime.now(UTC) + timedelta(days=2)).replace(hour=9, minute=0, second=0, microsecond=0)
    assert assert_refused(await post_hold(client, patient, hold_of(doctor, soon)), 409, "too_soon")["alternatives"]
    far = soon + timedelta(days=60)
    assert_refused(await post_hold(client, patient, hold_of(doctor, far)), 409, "too_far")
    assert_refused(await post_hold(client, patient, hold_of(clinic.admin())), 404, "doctor_not_found")
    suspended = clinic.doctor(UserStatus.SUSPENDED)
    assert_refused(await post_hold(client, patient, hold_of(suspended)), 409, "doctor_unavailable")


async def test_a_patient_has_three_holds_at_a_time(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    first, second, _ = [await held(client, patient, doctor) for _ in range(3)]
    for by in (patient, doctor):
        another = hold_of(doctor, patientId=str(patient.id))
        assert_refused(await post_hold(client, by, another), 409, "too_many_open")
    assert (await release(client, patient, first)).status_code == 204
    await held(client, patient, doctor)
    assert_refused(await post_hold(client, patient, hold_of(doctor)), 409, "too_many_open")
    await expire(database, second)
    await held(client, patient, doctor)
    await held(client, clinic.patient(), doctor)


async def test_a_hold_counts_among_what_a_patient_may_have_open(
    booking_database: DatabaseUrls, redis_url: str, auth: AuthStub, clinic: Clinic
) -> None:
    settings = settings_of(booking_database.application, redis_url, auth)
    doctor, patient = clinic.doctor(), clinic.patient()
    async with client_of(create(replace(settings, open_appointments_per_patient=2))) as client:
        await book(client, patient, doctor)
        hold = await held(client, patient, doctor)
        assert_refused(await post(client, patient, request_for(doctor)), 409, "too_many_open")
        assert_refused(await post_hold(client, patient, hold_of(doctor)), 409, "too_many_open")
        # It is not counted twice when it is booked.
        await book(client, patient, doctor, instant(hold["dateTime"]), holdId=hold["id"])


async def test_who_may_hold(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, admin = clinic.doctor(), clinic.patient(), clinic.admin()
    named: dict[str, Any] = {"patientId": str(patient.id)}
    assert (await client.post("/api/holds", json=hold_of(doctor))).status_code == 401
    assert_refused(await post_hold(client, clinic.patient(), hold_of(doctor, **named)), 403, "forbidden")
    assert_refused(await post_hold(client, clinic.doctor(), hold_of(doctor, **named)), 403, "forbidden")
    for by in (doctor, admin):
        assert_refused(await post_hold(client, by, hold_of(doctor)), 400, "invalid_request", "patientId")
        missing = hold_of(doctor, patientId=str(uuid4()))
        assert_refused(await post_hold(client, by, missing), 404, "patient_not_found")
        assert (await held(client, by, doctor, **named))["patientId"] == str(patient.id)


async def test_a_repeated_hold_gets_the_first_answer(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    body, key = hold_of(doctor), {"Idempotency-Key": uuid4().hex}
    first = await post_hold(client, patient, body, **key)
    again = await post_hold(client, patient, body | {"holdMinutes": 5}, **key)
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    other = await post_hold(client, patient, body | {"holdMinutes": 6}, **key)
    assert_refused(other, 422, "idempotency_key_reused")
    await release(client, patient, first.json())
    assert (await post_hold(client, patient, body, **key)).content == first.content
    # The keys of the two operations are apart.
    answer = await client.post("/api/appointments", json=body, headers={**patient.headers, **key})
    assert answer.status_code == 201
