"""GET, POST and DELETE /api/availability/{doctorId}/exceptions, and their history."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from services.booking.schedule_exceptions.service import MOST
from services.contracts.enums import Role, UserStatus
from tests.booking.clinic import Clinic, assert_refused, book, free_time, post, request_for, wire
from tests.booking.schedule_exceptions.leave import DAY, HALF_HOUR, HOUR, add, added, extra, listed, off, remove, slots

WEEK = {"kind": "OFF", "from": "2030-07-08", "until": "2030-07-12", "reason": "Sailing"}


async def test_what_is_added_is_what_anyone_reads_without_its_reason(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    answer = await add(client, doctor, doctor, WEEK)
    assert answer.status_code == 201, answer.text
    leave = answer.json()
    assert answer.headers["location"] == f"/api/availability/{doctor.id}/exceptions/{leave['id']}"
    assert {name: leave[name] for name in (*WEEK, "start", "end")} == {**WEEK, "start": "00:00", "end": "24:00"}
    for by in (doctor, clinic.admin()):
        assert await listed(client, doctor, by) == [leave]
    for stranger in (None, clinic.patient(), clinic.doctor()):
        assert await listed(client, doctor, stranger) == [{**leave, "reason": None}]


@pytest.mark.parametrize(
    ("asked", "until", "end"),
    [
        ({"from": "2030-07-08"}, "2030-07-08", "24:00"),
        ({"from": "2030-07-08", "start": "22:00", "end": "02:00"}, "2030-07-09", "02:00"),
        ({"from": "2030-07-08", "start": "22:00", "end": "22:00"}, "2030-07-09", "22:00"),
        ({"from": "2030-07-08", "start": "09:00", "end": "12:00"}, "2030-07-08", "12:00"),
        ({"from": "2030-07-08", "until": "2030-07-09", "start": "22:00", "end": "02:00"}, "2030-07-09", "02:00"),
        ({"from": "2030-07-08", "until": "2030-07-10", "end": "00:00"}, "2030-07-09", "24:00"),
        ({"from": "2030-07-08", "until": "2031-07-08"}, "2031-07-08", "24:00"),
    ],
)
async def test_a_time_has_one_form(
    client: httpx.AsyncClient, clinic: Clinic, asked: dict[str, Any], until: str, end: str
) -> None:
    doctor = clinic.doctor()
    for kind in ("OFF", "EXTRA"):
        leave = await added(client, doctor, doctor, {"kind": kind, **asked})
        assert (leave["from"], leave["until"], leave["end"]) == (asked["from"], until, end)


def days_ahead(days: int) -> str:
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}"


@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        ({**WEEK, "kind": "HOLIDAY"}, "kind", "Invalid enum value"),
        ({**WEEK, "until": "2030-07-07"}, "until", "Before from"),
        ({**WEEK, "until": "2030-07-08", "start": "12:00", "end": "12:00"}, "end", "Not after start"),
        ({**WEEK, "until": "2031-07-09"}, "until", "366"),
        ({**WEEK, "start": "24:00"}, "start", "00:00 to 23:59"),
        ({**WEEK, "end": "9:00"}, "end", "such as 17:30"),
        ({**WEEK, "from": "2030-02-30"}, "from", "date"),
        ({**WEEK, "from": "0001-01-01"}, "from", "year"),
        ({**WEEK, "until": "9999-12-31"}, "until", "year"),
        ({**WEEK, "from": days_ahead(3657), "until": days_ahead(3660)}, "from", "ten years"),
        ({**WEEK, "from": days_ahead(-3), "until": days_ahead(-2)}, "until", "Over already"),
        ({**WEEK, "reason": " "}, "reason", "not allowed"),
        ({**WEEK, "timeZone": "UTC"}, "timeZone", "Unknown"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_path(
    client: httpx.AsyncClient, clinic: Clinic, body: dict[str, Any], path: str, message: str
) -> None:
    doctor = clinic.doctor()
    problem = assert_refused(await add(client, doctor, doctor, body), 400, "invalid_request", path)
    assert message in problem["errors"][0]["message"]


async def test_only_the_doctor_and_admins_may_add_and_remove(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, admin = clinic.doctor(), clinic.admin()
    leave = await added(client, admin, doctor, WEEK)
    for stranger in (clinic.patient(), clinic.doctor()):
        assert_refused(await add(client, stranger, doctor, WEEK), 403, "forbidden")
        assert_refused(await remove(client, stranger, leave), 403, "forbidden")
    assert_refused(await add(client, admin, clinic.patient(), WEEK), 404, "doctor_not_found")
    assert_refused(await add(client, admin, doctor._replace(id=uuid4()), WEEK), 404, "doctor_not_found")
    other = clinic.doctor()
    elsewhere = {**leave, "doctorId": str(other.id)}
    assert_refused(await remove(client, other, elsewhere), 404, "not_found")
    assert (await remove(client, doctor, leave)).status_code == 204
    assert_refused(await remove(client, doctor, leave), 404, "not_found")
    assert await listed(client, doctor) == []


async def test_a_doctor_who_waits_for_approval_is_seen_by_no_stranger(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor = clinic.doctor(UserStatus.PENDING)
    leave = await added(client, doctor, doctor, WEEK)
    path = f"/api/availability/{doctor.id}/exceptions"
    for headers in ({}, clinic.patient().headers):
        assert_refused(await client.get(path, headers=headers), 404, "doctor_not_found")
    assert await listed(client, doctor, doctor) == [leave]
    unknown = f"/api/availability/{uuid4()}/exceptions"
    assert_refused(await client.get(unknown), 404, "doctor_not_found")


async def test_a_repeated_request_adds_once(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, admin, key = clinic.doctor(), clinic.admin(), uuid4().hex
    first = await add(client, admin, doctor, WEEK, key=key)
    again = await add(client, admin, doctor, WEEK, key=key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert len(await listed(client, doctor)) == 1
    assert_refused(await add(client, admin, clinic.doctor(), WEEK, key=key), 422, "idempotency_key_reused")
    other = await add(client, admin, doctor, WEEK, key=key, on_conflict="cancel")
    assert_refused(other, 422, "idempotency_key_reused")


async def test_a_list_has_pages_and_days(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    asked = [("2030-07-08", "2030-07-12"), ("2030-07-08", "2030-07-08"), ("2030-08-01", "2031-07-31")]
    made = [await added(client, doctor, doctor, {"kind": "OFF", "from": first, "until": last}) for first, last in asked]
    assert await listed(client, doctor) == made
    path, found, query = f"/api/availability/{doctor.id}/exceptions", [], {"limit": "1"}
    while True:
        page = (await client.get(path, params=query)).json()
        found += page["items"]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
    assert found == made
    for first, end, expected in (
        ("2030-07-09", "2030-08-01", made[:1]),
        ("2030-07-08", "2030-07-09", made[:2]),
        ("2030-07-13", "2030-08-02", made[2:]),
        ("2031-07-31", None, made[2:]),
        ("2031-08-01", None, []),
        ("0001-01-01", "9999-12-31", made),
    ):
        query = {"from": first} | ({"to": end} if end else {})
        assert await listed(client, doctor, None, **query) == expected
    assert_refused(await client.get(path, params={"from": "yesterday"}), 400, "invalid_request")


async def test_a_doctor_without_hours_who_is_off_cannot_be_booked(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(time_zone="UTC"), clinic.patient(), free_time()
    leave = await added(client, doctor, doctor, off(at, at + 2 * HOUR))
    assert (await slots(client, doctor, at - HOUR, at + 3 * HOUR)) == [
        wire(at + number * HALF_HOUR) for number in (-2, -1, 4, 5)
    ]
    for start in (at - timedelta(minutes=29), at, at + timedelta(minutes=119)):
        problem = assert_refused(await post(client, patient, request_for(doctor, start)), 409, "outside_availability")
        assert problem["alternatives"][0]["dateTime"] == wire(at + 2 * HOUR)
    body = request_for(doctor, at, patientId=str(patient.id))
    assert_refused(await post(client, doctor, body), 409, "outside_availability")
    await book(client, patient, doctor, at - timedelta(minutes=37))
    await book(client, patient, doctor, at + timedelta(minutes=127))
    assert (await remove(client, doctor, leave)).status_code == 204
    await book(client, patient, doctor, at + timedelta(minutes=7))


async def test_leave_is_in_the_doctors_zone(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(time_zone="Asia/Tokyo"), clinic.patient()
    day = free_time().replace(hour=15)  # midnight in Tokyo
    await added(client, doctor, doctor, {"kind": "OFF", "from": f"{day + DAY:%Y-%m-%d}"})
    for start in (day, day + DAY - HALF_HOUR):
        assert_refused(await post(client, patient, request_for(doctor, start)), 409, "outside_availability")
    for start in (day - HALF_HOUR, day + DAY):
        await book(client, patient, doctor, start)


async def test_extra_hours_can_be_booked_until_they_are_removed(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(time_zone="UTC"), clinic.patient(), free_time()
    closed: dict[str, Any] = {"timeZone": "UTC", "weekly": []}
    await client.put(f"/api/availability/{doctor.id}", json=closed, headers=doctor.headers)
    hours = await added(client, doctor, doctor, extra(at + timedelta(minutes=10), at + 2 * HOUR))
    offered = await slots(client, doctor, at, at + DAY)
    assert offered == [wire(at + timedelta(minutes=minutes)) for minutes in (10, 40, 70)]
    assert_refused(await post(client, patient, request_for(doctor, at)), 409, "outside_availability")
    booked = await book(client, patient, doctor, at + timedelta(minutes=40))
    assert (await remove(client, doctor, hours, on_conflict="keep")).status_code == 204
    assert await slots(client, doctor, at, at + DAY) == []
    answer = await client.get(f"/api/appointments/{booked['id']}", headers=patient.headers)
    assert answer.json()["status"] == "PENDING"


async def test_a_doctor_has_a_bounded_number_of_exceptions_that_are_not_over(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor = clinic.doctor()
    leave = await added(client, doctor, doctor, WEEK)
    await database.execute(
        "INSERT INTO schedule_exceptions SELECT gen_random_uuid(), doctor_id, kind, starts_at, ends_at, reason,"
        " created_at FROM schedule_exceptions, generate_series(2, $2) WHERE doctor_id = $1",
        doctor.id,
        MOST,
    )
    assert_refused(await add(client, doctor, doctor, WEEK), 409, "too_many_exceptions")
    assert (await remove(client, doctor, leave)).status_code == 204
    await added(client, doctor, doctor, WEEK)
    await database.execute(
        "UPDATE schedule_exceptions SET starts_at = starts_at - interval '10 years', ends_at = ends_at - interval"
        " '10 years' WHERE doctor_id = $1",
        doctor.id,
    )
    await added(client, doctor, doctor, WEEK)


async def test_the_history_tells_who_added_and_removed_what(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, admin = clinic.doctor(), clinic.admin()
    leave = await added(client, doctor, doctor, WEEK)
    await remove(client, admin, leave)
    path = f"/api/availability/{doctor.id}/exceptions/history"
    page = (await client.get(path, params={"limit": 1}, headers=doctor.headers)).json()
    rest = (await client.get(path, params={"cursor": page["nextCursor"]}, headers=doctor.headers)).json()
    entries = page["items"] + rest["items"]
    assert [(one["revision"], one["action"], one["actorId"], one["actorRole"]) for one in entries] == [
        (1, "ADDED", str(doctor.id), Role.DOCTOR),
        (2, "REMOVED", str(admin.id), Role.ADMIN),
    ]
    for entry in entries:
        assert entry["exceptionId"] == leave["id"]
        assert "Sailing" not in str(entry)
        assert {name: entry[name] for name in ("from", "until")} == {name: WEEK[name] for name in ("from", "until")}
    for stranger in (clinic.doctor(), clinic.patient()):
        assert_refused(await client.get(path, headers=stranger.headers), 403, "forbidden")
    query = "SELECT action, actor_id FROM audit_log WHERE target_id = $1 AND result = 'SUCCEEDED' ORDER BY seq"
    assert [tuple(row) for row in await database.fetch(query, doctor.id)] == [
        ("availability.exception_added", doctor.id),
        ("availability.exception_removed", admin.id),
    ]
