"""Leave over booked appointments, and hours that leave some outside: listed, kept or cancelled."""

from datetime import UTC, datetime, time
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from tests.booking.clinic import (
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
    repeat,
    request_for,
)
from tests.booking.schedule_exceptions.leave import (
    DAY,
    HALF_HOUR,
    HOUR,
    add,
    added,
    extra,
    listed,
    off,
    remove,
    upcoming,
)

EVERY_DAY = [{"weekday": weekday, "start": "09:00", "end": "12:00"} for weekday in range(1, 8)]
HOURS: dict[str, Any] = {"timeZone": "UTC", "weekly": [{"hours": EVERY_DAY}]}
CLOSED: dict[str, Any] = {"timeZone": "UTC", "weekly": []}


async def put(
    client: httpx.AsyncClient, doctor: Person, body: dict[str, Any], on_conflict: str | None = None
) -> httpx.Response:
    query = {"onConflict": on_conflict} if on_conflict else {}
    return await client.put(f"/api/availability/{doctor.id}", json=body, headers=doctor.headers, params=query)


def affected(problem: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["id"], one["dateTime"]) for one in problem["appointments"]]


def times_of(*appointments: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["id"], one["dateTime"]) for one in appointments]


async def statuses(client: httpx.AsyncClient, by: Person, *appointments: dict[str, Any]) -> list[str]:
    return [(await get(client, by, one))["status"] for one in appointments]


async def test_leave_over_booked_appointments_lists_them_and_changes_nothing(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient, at = clinic.doctor(time_zone="UTC"), clinic.patient(), free_time()
    before, first, second, after = [
        await book(client, patient, doctor, at + number * HOUR, durationMinutes=60) for number in range(4)
    ]
    leave = off(at + HOUR + HALF_HOUR, at + 3 * HOUR)
    problem = assert_refused(await add(client, doctor, doctor, leave), 409, "appointments_affected")
    assert (affected(problem), problem["count"]) == (times_of(first, second), 2)
    assert await listed(client, doctor) == []
    assert await statuses(client, patient, before, first, second, after) == ["PENDING"] * 4


async def test_what_is_cancelled_or_over_is_not_affected(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(time_zone="UTC"), clinic.patient(), free_time()
    cancelled, begun = await book(client, patient, doctor, at), await book(client, patient, doctor, at + HOUR)
    await change(client, doctor, cancelled, status="CANCELLED")
    await database.execute(
        "UPDATE appointments SET during = r, blocked = r FROM (SELECT tstzrange(now() - interval '1 minute',"
        " now() + interval '1 hour')) AS range (r) WHERE id = $1",
        UUID(begun["id"]),
    )
    await added(client, doctor, doctor, off(at - 5 * DAY, at + DAY))


async def test_with_keep_they_stay_and_can_still_be_confirmed(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(time_zone="UTC"), clinic.patient(), free_time()
    booked = await book(client, patient, doctor, at)
    await added(client, doctor, doctor, off(at, at + HOUR), on_conflict="keep")
    assert await statuses(client, patient, booked) == ["PENDING"]
    assert (await change(client, doctor, booked, status="CONFIRMED")).status_code == 200
    assert_refused(await post(client, patient, request_for(doctor, at + HALF_HOUR)), 409, "outside_availability")


async def test_with_cancel_they_are_cancelled_by_the_caller_and_both_are_told(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(time_zone="UTC"), clinic.patient(), free_time()
    booked, later = await book(client, patient, doctor, at), await book(client, patient, doctor, at + HOUR)
    for by, confirmed in ((doctor, False), (clinic.admin(), True)):
        if confirmed:
            booked = await book(client, patient, doctor, at + DAY)
            await change(client, doctor, booked, status="CONFIRMED")
        start = datetime.fromisoformat(booked["dateTime"])
        await added(client, by, doctor, off(start, start + HALF_HOUR), on_conflict="cancel")
        now = await get(client, patient, booked)
        assert (now["status"], now["cancellationReason"]) == ("CANCELLED", "doctor_unavailable")
        entry = (await history(client, patient, booked))[-1]
        assert (entry["actorId"], entry["actorRole"], entry["reason"]) == (
            str(by.id),
            by.state.role,
            "doctor_unavailable",
        )
        assert (await events_of(database, booked))[-1] == ("AppointmentCancelled", now["version"])
        query = "SELECT actor_id FROM audit_log WHERE target_id = $1 AND action = 'appointment.cancelled'"
        assert [row[0] for row in await database.fetch(query, UUID(booked["id"]))] == [by.id]
    assert await statuses(client, patient, later) == ["PENDING"]


async def test_of_many_the_first_are_listed_and_all_are_cancelled(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, at, key = clinic.doctor(time_zone="UTC"), free_time(), uuid4().hex
    first = await book(client, clinic.patient(), doctor, at)
    await repeat(database, first, 249, every=HALF_HOUR)
    last = await book(client, clinic.patient(), doctor, at + 250 * HALF_HOUR)
    leave = off(at, at + 250 * HALF_HOUR)
    problem = assert_refused(await add(client, doctor, doctor, leave), 409, "appointments_affected")
    assert (len(problem["appointments"]), problem["count"], affected(problem)[:1]) == (100, 250, times_of(first))
    answer = await add(client, doctor, doctor, leave, on_conflict="cancel", key=key)
    again = await add(client, doctor, doctor, leave, on_conflict="cancel", key=key)
    assert (answer.status_code, again.content) == (201, answer.content)
    count = "SELECT status, count(*)::int FROM appointments WHERE doctor_id = $1 GROUP BY 1 ORDER BY 1"
    assert [tuple(row) for row in await database.fetch(count, doctor.id)] == [("CANCELLED", 250), ("PENDING", 1)]
    assert await statuses(client, doctor, last) == ["PENDING"]
    assert len(await listed(client, doctor)) == 1


async def test_hours_that_leave_appointments_outside_list_keep_or_cancel_them(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient, at = clinic.doctor(time_zone="UTC"), clinic.patient(), free_time()
    inside = await book(client, patient, doctor, at)
    outside = await book(client, patient, doctor, at + 4 * HOUR)
    problem = assert_refused(await put(client, doctor, HOURS), 409, "appointments_affected")
    assert (affected(problem), problem["count"]) == (times_of(outside), 1)
    answer = await client.get(f"/api/availability/{doctor.id}")
    assert_refused(answer, 404, "no_availability")
    assert (await put(client, doctor, HOURS, "keep")).status_code == 200
    # What was kept is no news, and what stays inside no conflict.
    assert (await put(client, doctor, {**HOURS, "slotMinutes": 20})).status_code == 200
    assert await statuses(client, patient, inside, outside) == ["PENDING", "PENDING"]
    problem = assert_refused(await put(client, doctor, CLOSED), 409, "appointments_affected")
    assert affected(problem) == times_of(inside)
    answer = await put(client, doctor, CLOSED, "cancel")
    assert (answer.status_code, answer.json()["version"]) == (200, 3)
    assert await statuses(client, patient, inside, outside) == ["CANCELLED", "PENDING"]


async def test_another_zone_and_public_holidays_may_leave_appointments_outside(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient = clinic.doctor(time_zone="UTC"), clinic.patient()
    await put(client, doctor, HOURS)
    christmas = datetime.combine(upcoming(12, 25), time(9), UTC)
    booked = await book(client, doctor, doctor, christmas, patientId=str(patient.id))
    for other in ({"timeZone": "Asia/Tokyo"}, {"publicHolidays": "DE"}):
        problem = assert_refused(await put(client, doctor, {**HOURS, **other}), 409, "appointments_affected")
        assert affected(problem) == times_of(booked)
    assert (await put(client, doctor, {**HOURS, "publicHolidays": "CN"})).status_code == 200


async def test_extra_hours_are_not_removed_under_an_appointment_unasked(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient, at = clinic.doctor(time_zone="UTC"), clinic.patient(), free_time()
    await put(client, doctor, CLOSED)
    hours = await added(client, doctor, doctor, extra(at, at + HOUR))
    twice = await added(client, doctor, doctor, extra(at, at + HOUR))
    booked = await book(client, patient, doctor, at)
    assert (await remove(client, doctor, twice)).status_code == 204
    problem = assert_refused(await remove(client, doctor, hours), 409, "appointments_affected")
    assert affected(problem) == times_of(booked)
    assert await listed(client, doctor, doctor) == [hours]
    assert (await remove(client, doctor, hours, on_conflict="cancel")).status_code == 204
    assert await statuses(client, patient, booked) == ["CANCELLED"]


async def test_an_overbooked_appointment_outside_the_hours_is_affected_by_leave_alone(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient, at = clinic.doctor(time_zone="UTC"), clinic.patient(), free_time()
    await put(client, doctor, HOURS)
    asked = {"patientId": str(patient.id), "overbook": True, "reason": "In pain"}
    booked = await book(client, doctor, doctor, at + 5 * HOUR, **asked)
    assert (await put(client, doctor, CLOSED)).status_code == 200
    problem = assert_refused(await add(client, doctor, doctor, off(at, at + DAY)), 409, "appointments_affected")
    assert affected(problem) == times_of(booked)


@pytest.mark.parametrize("value", ["", "drop", "KEEP"])
async def test_another_answer_to_the_conflict_is_refused(client: httpx.AsyncClient, clinic: Clinic, value: str) -> None:
    doctor, at = clinic.doctor(time_zone="UTC"), free_time()
    path = f"/api/availability/{doctor.id}"
    requests = [
        client.post(f"{path}/exceptions?onConflict={value}", json=off(at, at + HOUR), headers=doctor.headers),
        client.put(f"{path}?onConflict={value}", json=HOURS, headers=doctor.headers),
        client.delete(f"{path}/exceptions/{uuid4()}?onConflict={value}", headers=doctor.headers),
    ]
    for request in requests:
        assert_refused(await request, 400, "invalid_request", "onConflict")
