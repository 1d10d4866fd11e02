"""GET and PUT /api/availability/{doctorId}, and its history."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from services.contracts.enums import Role, UserStatus
from tests.booking.clinic import Clinic, Person, assert_refused, book

NINE_TO_FIVE = [{"weekday": weekday, "start": "09:00", "end": "17:00"} for weekday in range(1, 6)]
HOURS: dict[str, Any] = {"timeZone": "Europe/Berlin", "weekly": [{"hours": NINE_TO_FIVE}]}


async def put(
    client: httpx.AsyncClient, by: Person, doctor: Person, body: dict[str, Any], *, if_match: str | None = None
) -> httpx.Response:
    headers = by.headers | ({"If-Match": if_match} if if_match else {})
    return await client.put(f"/api/availability/{doctor.id}", json=body, headers=headers)


async def read(client: httpx.AsyncClient, doctor: Person, by: Person | None = None) -> httpx.Response:
    return await client.get(f"/api/availability/{doctor.id}", headers=by.headers if by else {})


async def test_what_is_set_is_what_anyone_reads(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    body = {
        **HOURS,
        "slotMinutes": 20,
        "minimumNoticeMinutes": 120,
        "horizonDays": 90,
        "publicHolidays": "US-NY",
        "weekly": [
            {"validUntil": "2027-01-31", "hours": NINE_TO_FIVE},
            {
                "validFrom": "2027-02-01",
                "cycleWeeks": 2,
                "hours": [
                    {"week": 0, "weekday": 1, "start": "22:00", "end": "02:00"},
                    {"week": 1, "weekday": 7, "start": "00:00", "end": "24:00"},
                ],
            },
        ],
    }
    answer = await put(client, doctor, doctor, body)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"'), answer.text
    seen = await read(client, doctor)
    assert (seen.status_code, seen.headers["etag"]) == (200, '"1"')
    assert seen.json() == answer.json()
    weekly = seen.json()["weekly"]
    assert weekly[1] == {"validUntil": None, **body["weekly"][1]}
    assert weekly[0]["hours"] == [{"week": 0, **hours} for hours in NINE_TO_FIVE]
    names = ("slotMinutes", "minimumNoticeMinutes", "horizonDays", "publicHolidays")
    assert [seen.json()[name] for name in names] == [20, 120, 90, "US-NY"]


async def test_setting_replaces_everything_and_the_same_changes_nothing(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, admin = clinic.doctor(), clinic.admin()
    await put(client, doctor, doctor, {**HOURS, "slotMinutes": 20})
    same = await put(client, doctor, doctor, {**HOURS, "slotMinutes": 20})
    assert same.json()["version"] == 1
    other = await put(client, admin, doctor, {"timeZone": "Asia/Tokyo", "weekly": []})
    assert (other.json()["version"], other.json()["slotMinutes"], other.json()["weekly"]) == (2, 30, [])
    assert (await read(client, doctor)).json() == other.json()


async def test_a_stale_version_is_refused(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    for tag in ('"1"', "*"):
        assert_refused(await put(client, doctor, doctor, HOURS, if_match=tag), 412, "precondition_failed")
    await put(client, doctor, doctor, HOURS)
    assert (await put(client, doctor, doctor, {**HOURS, "slotMinutes": 20}, if_match='"1"')).status_code == 200
    answer = await put(client, doctor, doctor, {**HOURS, "slotMinutes": 15}, if_match='"1"')
    assert_refused(answer, 412, "precondition_failed")
    assert (await put(client, doctor, doctor, {**HOURS, "slotMinutes": 15}, if_match="*")).status_code == 200


async def test_of_changes_at_once_that_name_a_version_one_wins(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    await put(client, doctor, doctor, HOURS)
    changes = (put(client, doctor, doctor, {**HOURS, "slotMinutes": 10 + n}, if_match='"1"') for n in range(10))
    answers = await asyncio.gather(*changes)
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9
    assert (await read(client, doctor)).json()["version"] == 2


async def test_only_the_doctor_and_admins_may_set_it(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, admin = clinic.doctor(), clinic.admin()
    for stranger in (clinic.patient(), clinic.doctor()):
        assert_refused(await put(client, stranger, doctor, HOURS), 403, "forbidden")
    answer = await client.put(f"/api/availability/{doctor.id}", json=HOURS)
    assert_refused(answer, 401, "unauthorized")
    assert_refused(await put(client, admin, clinic.patient(), HOURS), 404, "doctor_not_found")
    unknown = doctor._replace(id=uuid4())
    assert_refused(await put(client, admin, unknown, HOURS), 404, "doctor_not_found")


async def test_a_doctor_without_hours_is_told_from_one_who_does_not_exist(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await book(client, patient, doctor)
    assert_refused(await read(client, doctor), 404, "no_availability")
    assert_refused(await read(client, patient), 404, "doctor_not_found")
    assert_refused(await read(client, doctor._replace(id=uuid4())), 404, "doctor_not_found")


async def test_a_doctor_who_waits_for_approval_is_seen_by_no_stranger(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor = clinic.doctor(UserStatus.PENDING)
    assert (await put(client, doctor, doctor, HOURS)).status_code == 200
    for stranger in (None, clinic.patient(), clinic.doctor()):
        assert_refused(await read(client, doctor, stranger), 404, "doctor_not_found")
    for by in (doctor, clinic.admin()):
        assert (await read(client, doctor, by)).status_code == 200


async def test_a_suspended_doctor_cannot_set_hours(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor(UserStatus.SUSPENDED)
    assert_refused(await put(client, doctor, doctor, HOURS), 403, "account_suspended")


def weekly(*hours: tuple[Any, ...], **period: Any) -> dict[str, Any]:
    names = ("weekday", "start", "end", "week")
    return {**HOURS, "weekly": [{**period, "hours": [dict(zip(names, one, strict=False)) for one in hours]}]}


@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        ({**HOURS, "timeZone": "Europe/Bielefeld"}, "timeZone", "IANA"),
        ({**HOURS, "timeZone": "+01:00"}, "timeZone", "IANA"),
        ({**HOURS, "timeZone": "Factory"}, "timeZone", "IANA"),
        (weekly((1, "09:00", "09:00")), "weekly[0].hours[0].end", "empty"),
        (weekly((1, "24:00", "09:00")), "weekly[0].hours[0].start", "00:00 to 23:59"),
        (weekly((1, "9:00", "17:00")), "weekly[0].hours[0].start", "such as 09:30"),
        (weekly((1, "09:00", "24:01")), "weekly[0].hours[0].end", "00:00 to 24:00"),
        (weekly((1, "09:00", "17:00\n")), "weekly[0].hours[0].end", "00:00 to 24:00"),
        (weekly((1, "٠٩:٠٠", "17:00")), "weekly[0].hours[0].start", "such as 09:30"),
        (weekly((1, "09:00", "12:00"), (1, "11:59", "13:00")), "weekly[0].hours[1]", "Overlaps weekly[0].hours[0]"),
        (weekly((1, "09:00", "12:00"), (1, "09:00", "12:00")), "weekly[0].hours[1]", "Overlaps"),
        (weekly((2, "01:00", "03:00"), (1, "22:00", "02:00")), "weekly[0].hours[1]", "Overlaps"),
        (weekly((7, "22:00", "02:00"), (1, "01:59", "03:00")), "weekly[0].hours[1]", "Overlaps"),
        (weekly((8, "09:00", "12:00")), "weekly[0].hours[0].weekday", "<= 7"),
        (weekly((1, "09:00", "12:00", 1)), "weekly[0].hours[0].week", "cycleWeeks"),
        (weekly((1, "09:00", "12:00"), cycleWeeks=2), "weekly[0].validFrom", "Required"),
        (weekly(cycleWeeks=5), "weekly[0].cycleWeeks", "<= 4"),
        (weekly(validFrom="2027-02-01", validUntil="2027-01-31"), "weekly[0].validUntil", "Before"),
        (weekly(validFrom="0001-01-01"), "weekly[0].validFrom", "year"),
        (weekly(validUntil="9999-12-31"), "weekly[0].validUntil", "year"),
        (weekly(validFrom="2027-02-30"), "weekly[0].validFrom", "date"),
        ({**HOURS, "weekly": [{"hours": []}, {"hours": []}]}, "weekly[1].validFrom", "Overlaps weekly[0]"),
        (
            {
                **HOURS,
                "weekly": [{"validFrom": "2027-02-01", "hours": []}, {"validUntil": "2027-02-01", "hours": []}],
            },
            "weekly[0].validFrom",
            "Overlaps weekly[1]",
        ),
        ({**HOURS, "slotMinutes": 4}, "slotMinutes", ">= 5"),
        ({**HOURS, "horizonDays": 0}, "horizonDays", ">= 1"),
        ({**HOURS, "minimumNoticeMinutes": -1}, "minimumNoticeMinutes", ">= 0"),
        ({**HOURS, "weekly": [{"hours": []}] * 21}, "weekly", "length <= 20"),
        ({**HOURS, "version": 3}, "version", "Unknown"),
        ({**HOURS, "publicHolidays": "DE-XX"}, "publicHolidays", "No region"),
        ({**HOURS, "publicHolidays": "ZZ"}, "publicHolidays", "No region"),
        ({**HOURS, "publicHolidays": "de-be"}, "publicHolidays", "form"),
        ({**HOURS, "publicHolidays": "Germany"}, "publicHolidays", "length"),
        ({**HOURS, "publicHolidays": ""}, "publicHolidays", "form"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_path(
    client: httpx.AsyncClient, clinic: Clinic, body: dict[str, Any], path: str, message: str
) -> None:
    doctor = clinic.doctor()
    problem = assert_refused(await put(client, doctor, doctor, body), 400, "invalid_request", path)
    assert message in problem["errors"][0]["message"]


@pytest.mark.parametrize(
    "body",
    [
        weekly((1, "22:30", "24:00"), (2, "00:00", "02:00")),
        weekly((7, "22:00", "02:00"), (1, "02:00", "03:00")),
        weekly((1, "00:00", "24:00"), (2, "00:00", "24:00")),
        weekly((1, "09:00", "12:00"), (1, "12:00", "13:00")),
        weekly((1, "12:00", "12:01")),
        {
            **HOURS,
            "weekly": [{"validFrom": "2027-02-01", "hours": []}, {"validUntil": "2027-01-31", "hours": []}],
        },
    ],
)
async def test_hours_and_periods_may_touch(client: httpx.AsyncClient, clinic: Clinic, body: dict[str, Any]) -> None:
    doctor = clinic.doctor()
    answer = await put(client, doctor, doctor, body)
    assert answer.status_code == 200, answer.text
    assert (await read(client, doctor)).json() == answer.json()


async def test_the_history_tells_who_set_what(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, admin = clinic.doctor(), clinic.admin()
    first = (await put(client, doctor, doctor, HOURS)).json()
    second = (await put(client, admin, doctor, {**HOURS, "slotMinutes": 20})).json()
    path = f"/api/availability/{doctor.id}/history"
    for by in (doctor, admin):
        page = (await client.get(path, params={"limit": 1}, headers=by.headers)).json()
        rest = (await client.get(path, params={"cursor": page["nextCursor"]}, headers=by.headers)).json()
        entries = page["items"] + rest["items"]
        assert [entry["availability"] for entry in entries] == [first, second]
        assert [(entry["actorId"], entry["actorRole"]) for entry in entries] == [
            (str(doctor.id), Role.DOCTOR),
            (str(admin.id), Role.ADMIN),
        ]
    # As the releases before autoConfirm and publicHolidays wrote them.
    older = "UPDATE schedule_history SET schedule = schedule - 'autoConfirm' - 'publicHolidays' WHERE doctor_id = $1"
    await database.execute(older, doctor.id)
    page = (await client.get(path, headers=doctor.headers)).json()
    assert [entry["availability"] for entry in page["items"]] == [first, second]
    for stranger in (clinic.doctor(), clinic.patient()):
        assert_refused(await client.get(path, headers=stranger.headers), 403, "forbidden")
    query = "SELECT action, actor_id FROM audit_log WHERE target_id = $1 AND result = 'SUCCEEDED' ORDER BY seq"
    written = [tuple(row) for row in await database.fetch(query, doctor.id) if row["action"] != "record.read"]
    assert written == [("availability.changed", doctor.id), ("availability.changed", admin.id)]
