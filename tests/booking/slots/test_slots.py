"""GET /api/slots, on a doctor's hours and on what is booked."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from services.contracts.enums import UserStatus
from tests.booking.clinic import (
    Clinic,
    Person,
    assert_refused,
    book,
    change,
    free_time,
    hold,
    repeat,
    request_for,
    wire,
)

EVERY_DAY = [{"weekday": weekday, "start": "09:00", "end": "12:00"} for weekday in range(1, 8)]
HOURS: dict[str, Any] = {"timeZone": "UTC", "weekly": [{"hours": EVERY_DAY}]}


async def open_hours(client: httpx.AsyncClient, doctor: Person, **update: Any) -> None:
    answer = await client.put(f"/api/availability/{doctor.id}", json={**HOURS, **update}, headers=doctor.headers)
    assert answer.status_code == 200, answer.text


async def ask(client: httpx.AsyncClient, doctor: Person, **query: Any) -> httpx.Response:
    return await client.get("/api/slots", params={"doctorId": str(doctor.id), **query})


async def items(client: httpx.AsyncClient, doctor: Person, day: datetime, **query: Any) -> list[dict[str, Any]]:
    """Return all items of the day that begins nine hours before `day`, page by page."""
    begin = day.replace(hour=0)
    query = {"from": wire(begin), "to": wire(begin + timedelta(days=1)), **query}
    found: list[dict[str, Any]] = []
    while True:
        answer = await ask(client, doctor, **query)
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        if answer.json()["nextCursor"] is None:
            return found
        query["cursor"] = answer.json()["nextCursor"]


async def starts(client: httpx.AsyncClient, doctor: Person, day: datetime, **query: Any) -> list[str]:
    return [slot["startsAt"][11:16] for slot in await items(client, doctor, day, **query)]


async def test_a_slot_says_when_it_is_for_the_doctor_and_for_the_world(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, day = clinic.doctor(), free_time()
    await open_hours(client, doctor, timeZone="Asia/Kathmandu")
    first, *_ = await items(client, doctor, day, durationMinutes=60)
    assert first == {
        "doctorId": str(doctor.id),
        "typeId": None,
        "startsAt": wire(day.replace(hour=3, minute=15)),
        "endsAt": wire(day.replace(hour=4, minute=15)),
        "localStart": day.replace(tzinfo=None, hour=9).isoformat(),
        "timeZone": "Asia/Kathmandu",
    }


async def test_what_is_booked_or_held_is_not_free(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, day = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor)
    await book(client, patient, doctor, day + timedelta(minutes=30))
    gone = await book(client, patient, doctor, day + timedelta(minutes=60))
    overbooked = request_for(doctor, day + timedelta(minutes=30), patientId=str(clinic.patient().id), overbook=True)
    await client.post("/api/appointments", json={**overbooked, "reason": "Urgent"}, headers=doctor.headers)
    assert (await change(client, patient, gone, status="CANCELLED")).status_code == 200
    await hold(database, doctor, patient, day + timedelta(minutes=90), "1 hour")
    await hold(database, doctor, patient, day + timedelta(minutes=120), "-1 second")
    assert await starts(client, doctor, day) == ["09:00", "10:00", "11:00", "11:30"]
    assert await starts(client, doctor, day, durationMinutes=60) == ["11:00"]


async def test_an_appointment_that_begins_before_the_window_reaches_into_it(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, day = clinic.doctor(), free_time()
    await open_hours(client, doctor)
    await book(client, doctor, doctor, day, patientId=str(clinic.patient().id), durationMinutes=120)
    window = {"from": wire(day + timedelta(minutes=90)), "to": wire(day + timedelta(hours=5))}
    assert await starts(client, doctor, day, **window) == ["11:00", "11:30"]


async def test_pages_follow_each_other(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, day = clinic.doctor(), free_time()
    await open_hours(client, doctor)
    whole = await items(client, doctor, day, to=wire(day + timedelta(days=61)), limit=100)
    assert len(whole) == 61 * 6
    assert await items(client, doctor, day, to=wire(day + timedelta(days=61)), limit=7) == whole


async def test_days_count_what_the_slots_list(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, day = clinic.doctor(), clinic.patient(), free_time()
    weekend = {(day + timedelta(days=days)).isoweekday() for days in (1, 2)}
    await open_hours(client, doctor, weekly=[{"hours": [one for one in EVERY_DAY if one["weekday"] not in weekend]}])
    await book(client, patient, doctor, day)
    found = await items(client, doctor, day, to=wire(day + timedelta(days=5)), view="days", limit=2)
    day_of = [(day + timedelta(days=days)).date().isoformat() for days in range(6)]
    assert [one["date"] for one in found] == day_of
    assert [one["free"] for one in found] == [5, 0, 0, 6, 6, 0]
    assert [one["first"] for one in found[:3]] == [wire(day + timedelta(minutes=30)), None, None]


async def test_case_9_the_doctors_zone_decides_about_the_day(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, day = clinic.doctor(), free_time().replace(hour=0)
    await open_hours(
        client,
        doctor,
        timeZone="Asia/Tokyo",
        weekly=[{"hours": [{"weekday": day.isoweekday(), "start": "09:00", "end": "17:00"}]}],
    )
    first, *_ = await items(client, doctor, day)
    assert (first["startsAt"], first["localStart"][11:]) == (wire(day), "09:00:00")
    await book(client, clinic.patient(), doctor, datetime.fromisoformat(first["startsAt"]))


async def test_notice_and_horizon_bound_the_slots(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    await open_hours(client, doctor, minimumNoticeMinutes=2880, horizonDays=4)
    now = datetime.now(UTC)
    answer = await ask(client, doctor, limit=100)
    found = [datetime.fromisoformat(slot["startsAt"]) for slot in answer.json()["items"]]
    assert found
    assert now + timedelta(days=2) - timedelta(seconds=1) <= found[0]
    assert found[-1] <= datetime.now(UTC) + timedelta(days=4)


async def test_a_change_of_the_hours_is_seen_at_once(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, day = clinic.doctor(), free_time()
    for minutes, count in ((30, 6), (60, 3), (45, 4)):
        await open_hours(client, doctor, slotMinutes=minutes)
        assert len(await starts(client, doctor, day)) == count


async def test_a_doctor_without_hours_can_be_booked_at_any_time(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, day = clinic.doctor(), clinic.patient(), free_time()
    await book(client, patient, doctor, day)
    found = await items(client, doctor, day, to=wire(day + timedelta(hours=1)), limit=100)
    assert found[0]["timeZone"] == "Europe/Berlin"
    assert wire(day) not in [slot["startsAt"] for slot in found]
    assert wire(day + timedelta(minutes=30)) in [slot["startsAt"] for slot in found]


async def test_a_doctor_without_free_time_has_no_slots(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    closed, full, day = clinic.doctor(), clinic.doctor(), free_time()
    await open_hours(client, closed, weekly=[])
    await open_hours(client, full)
    appointment = await book(client, clinic.patient(), full, day)
    await repeat(database, appointment, 5, every=timedelta(minutes=30))
    for doctor in (closed, full):
        assert await items(client, doctor, day) == []


@pytest.mark.parametrize(
    ("status", "code"), [(UserStatus.PENDING, "doctor_not_found"), (UserStatus.SUSPENDED, "doctor_unavailable")]
)
async def test_a_doctor_who_takes_no_appointments_has_no_slots(
    client: httpx.AsyncClient, clinic: Clinic, status: UserStatus, code: str
) -> None:
    doctor, patient = clinic.doctor(status), clinic.patient()
    await client.post("/api/appointments", json=request_for(doctor), headers=patient.headers)
    assert_refused(await ask(client, doctor), 404 if code == "doctor_not_found" else 409, code)


async def test_only_doctors_have_slots(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient = clinic.patient()
    await book(client, patient, clinic.doctor())
    assert_refused(await ask(client, patient), 404, "doctor_not_found")
    assert_refused(await ask(client, patient._replace(id=uuid4())), 404, "doctor_not_found")


@pytest.mark.parametrize("begin", ["0002-01-01T00:00:00Z", "9998-12-31T23:59:59Z", "2027-01-01T00:00:00.5+14:00"])
@pytest.mark.parametrize("view", ["slots", "days"])
async def test_a_window_may_be_long_ago_or_far_away(
    client: httpx.AsyncClient, clinic: Clinic, begin: str, view: str
) -> None:
    doctor = clinic.doctor()
    await open_hours(client, doctor)
    answer = await ask(client, doctor, view=view, **{"from": begin})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"from": "2027-01-01T00:00:00"}, "from"),
        ({"to": "tomorrow"}, "to"),
        ({"from": "2027-01-02T00:00:00Z", "to": "2027-01-02T00:00:00Z"}, "to"),
        ({"from": "2027-01-02T00:00:00Z", "to": "2027-03-05T00:00:01Z"}, "to"),
        ({"durationMinutes": 4}, "durationMinutes"),
        ({"durationMinutes": 481}, "durationMinutes"),
        ({"view": "weeks"}, "view"),
        ({"limit": 101}, "limit"),
        ({"cursor": "WyJ4Il0"}, "cursor"),
        ({"cursor": "WyJ4Il0", "view": "days"}, "cursor"),
        ({"doctorId": "me"}, "doctorId"),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_its_path(
    client: httpx.AsyncClient, clinic: Clinic, query: dict[str, Any], path: str
) -> None:
    assert_refused(await ask(client, clinic.doctor(), **query), 400, "invalid_request", path)
