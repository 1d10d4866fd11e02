"""GET /api/appointments, /{id} and /{id}/history, and the internal routes for auth."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from services.kit.http.paging import encode_cursor
from tests.booking.clinic import (
    AUTH_TO_BOOKING,
    Clinic,
    Person,
    assert_refused,
    book,
    change,
    free_time,
    history,
    hold,
    post,
    request_for,
    starts_in_the_past,
    wire,
)
from tests.support.auth_stub import INTERNAL_TOKEN

HOUR = timedelta(hours=1)


async def listed(client: httpx.AsyncClient, person: Person, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/api/appointments", params=query, headers=person.headers)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def test_everybody_lists_their_own_by_time_descending(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    first = await book(client, patient, doctor, at)
    third = await book(client, patient, clinic.doctor(), at + 2 * HOUR)
    second = await book(client, clinic.patient(), doctor, at + HOUR)
    assert await listed(client, patient) == [third, first]
    assert await listed(client, doctor) == [second, first]
    assert await listed(client, clinic.patient()) == []
    both = [second, first]
    assert await listed(client, clinic.admin(), doctorId=str(doctor.id)) == both


async def test_the_filters_narrow_what_one_may_see(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    first = await book(client, patient, doctor, at)
    second = await book(client, clinic.patient(), doctor, at + HOUR)
    second = (await change(client, doctor, second, status="CONFIRMED")).json()
    assert await listed(client, doctor, status="CONFIRMED") == [second]
    assert await listed(client, doctor, status="PENDING", to=wire(at + HOUR)) == [first]
    assert await listed(client, doctor, **{"from": wire(at), "to": wire(at + HOUR)}) == [first]
    assert await listed(client, doctor, **{"from": wire(at + HOUR)}) == [second]
    assert await listed(client, doctor, patientId=str(patient.id)) == [first]
    admin = clinic.admin()
    both = {"doctorId": str(doctor.id), "patientId": str(patient.id)}
    assert await listed(client, admin, **both) == [first]
    assert await listed(client, clinic.patient(), **both) == []
    assert await listed(client, patient, patientId=second["patientId"]) == []


async def test_pages_follow_each_other_without_gap_or_repeat(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, at = clinic.doctor(), free_time()
    booked = [await book(client, clinic.patient(), doctor, at + n * HOUR) for n in range(4)]
    more = {"patientId": str(clinic.patient().id), "overbook": True, "reason": "The same time"}
    booked.append(await book(client, doctor, doctor, at, **more))
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    for size in (2, 2, 1):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/appointments", params=query, headers=doctor.headers)).json()
        assert len(page["items"]) == size
        found += page["items"]
        cursor = page["nextCursor"]
    assert cursor is None
    assert found == sorted(booked, key=lambda appointment: (appointment["dateTime"], appointment["id"]), reverse=True)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("limit", {"limit": 0}),
        ("limit", {"limit": 101}),
        ("cursor", {"cursor": "page2"}),
        ("from", {"from": "2026-12-01T09:30:00"}),
        ("to", {"to": "1900000000"}),
        ("from", {"from": "0001-01-01T00:00:00+23:59"}),
        ("to", {"to": "9999-12-31T23:59:59-23:59"}),
        ("cursor", {"cursor": encode_cursor(("0001-01-01T00:00:00+23:59", uuid4()))}),
        ("status", {"status": "HELD"}),
        ("doctorId", {"doctorId": "me"}),
    ],
)
async def test_a_malformed_query_is_refused(
    client: httpx.AsyncClient, clinic: Clinic, path: str, query: dict[str, Any]
) -> None:
    answer = await client.get("/api/appointments", params=query, headers=clinic.patient().headers)
    assert_refused(answer, 400, "invalid_request", path)


@pytest.mark.parametrize("version", [2**63, -(2**63) - 1, 10**30])
async def test_a_history_has_no_version_beyond_64_bits(client: httpx.AsyncClient, clinic: Clinic, version: int) -> None:
    patient = clinic.patient()
    path = f"/api/appointments/{(await book(client, patient, clinic.doctor()))['id']}/history"
    answer = await client.get(path, params={"cursor": encode_cursor(version)}, headers=patient.headers)
    assert_refused(answer, 400, "invalid_request", "cursor")
    answer = await client.get(path, params={"cursor": encode_cursor(2**63 - 1)}, headers=patient.headers)
    assert answer.json()["items"] == []


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
async def test_an_appointment_has_a_time_in_every_zone(client: httpx.AsyncClient, clinic: Clinic, at: str) -> None:
    patient, doctor = clinic.patient(), clinic.doctor()
    answer = await post(client, patient, {**request_for(doctor), "dateTime": at})
    assert_refused(answer, 400, "invalid_request", "dateTime")
    answer = await change(client, patient, await book(client, patient, doctor), dateTime=at)
    assert_refused(answer, 400, "invalid_request", "dateTime")


async def test_somebody_elses_appointment_does_not_exist(client: httpx.AsyncClient, clinic: Clinic) -> None:
    appointment = await book(client, clinic.patient(), clinic.doctor())
    for path in (appointment["id"], f"{appointment['id']}/history"):
        for person in (clinic.patient(), clinic.doctor()):
            assert_refused(await client.get(f"/api/appointments/{path}", headers=person.headers), 404, "not_found")
        assert (await client.get(f"/api/appointments/{path}", headers=clinic.admin().headers)).status_code == 200
        assert_refused(await client.get(f"/api/appointments/{path}"), 401, "unauthorized")
    assert_refused(await client.get("/api/appointments"), 401, "unauthorized")
    for nothing in (uuid4(), "nothing"):
        answer = await client.get(f"/api/appointments/{nothing}", headers=clinic.admin().headers)
        assert_refused(answer, 404, "not_found")


async def test_an_appointment_carries_its_version(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient = clinic.patient()
    appointment = await book(client, patient, clinic.doctor())
    answer = await client.get(f"/api/appointments/{appointment['id']}", headers=patient.headers)
    assert answer.headers["etag"] == '"1"'


async def test_a_hold_is_nobodys_appointment(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, admin = clinic.doctor(), clinic.patient(), clinic.admin()
    held = await hold(database, doctor, patient, free_time(), "1 minute")
    for person in (doctor, patient, admin):
        answer = await client.get(f"/api/appointments/{held}", headers=person.headers)
        assert_refused(answer, 404, "not_found")
        assert_refused(await change(client, person, {"id": held}, status="CANCELLED"), 404, "not_found")
        assert await listed(client, person, doctorId=str(doctor.id)) == []


async def test_history_has_pages_too(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    appointment = await book(client, clinic.patient(), doctor)
    for notes in ("a", "b"):
        await change(client, doctor, appointment, notes=notes)
    whole = await history(client, doctor, appointment)
    assert [entry["version"] for entry in whole] == [1, 2, 3]
    path = f"/api/appointments/{appointment['id']}/history"
    first = (await client.get(path, params={"limit": 2}, headers=doctor.headers)).json()
    query = {"limit": 2, "cursor": first["nextCursor"]}
    last = (await client.get(path, params=query, headers=doctor.headers)).json()
    assert (first["items"] + last["items"], last["nextCursor"]) == (whole, None)


async def test_auth_is_told_of_a_doctors_appointments_to_come(
    client: httpx.AsyncClient, internal: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, at = clinic.doctor(), free_time()
    gone = await book(client, clinic.patient(), doctor, at)
    await starts_in_the_past(database, gone, HOUR)
    cancelled = await book(client, clinic.patient(), doctor, at)
    await change(client, doctor, cancelled, status="CANCELLED")
    late = await book(client, clinic.patient(), doctor, at + HOUR)
    soon = await book(client, clinic.patient(), doctor, at)
    path, token = f"/internal/doctors/{doctor.id}/appointments", {"Authorization": f"Bearer {AUTH_TO_BOOKING}"}
    answer = await internal.get(path, headers=token)
    assert answer.json() == {
        "items": [
            {"id": appointment["id"], "dateTime": appointment["dateTime"], "status": "PENDING"}
            for appointment in (soon, late)
        ]
    }
    own = {"Authorization": f"Bearer {INTERNAL_TOKEN}"}  # which booking calls auth with
    for headers in ({}, doctor.headers, own):
        assert_refused(await internal.get(path, headers=headers), 401, "unauthorized")
    assert (await client.get(path, headers=token)).status_code == 404


async def test_the_documents_name_every_operation(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/docs/booking/openapi.json")).json()
    operations = {
        operation["operationId"]: operation
        for methods in document["paths"].values()
        for operation in methods.values()
        if operation.get("tags") == ["Appointments"]
    }
    assert set(operations) == {
        "bookAppointment",
        "listAppointments",
        "getAppointment",
        "changeAppointment",
        "getAppointmentHistory",
    }
    for operation in operations.values():
        assert operation["summary"]
        assert operation["description"]
        assert {"400", "401", "503"} <= operation["responses"].keys()


async def test_the_wall_time_is_the_doctors(client: httpx.AsyncClient, clinic: Clinic) -> None:
    """Berlin sets its clocks back on 31 October 2027 at 01:00 UTC: 02:30 exists twice."""
    doctor = clinic.doctor(time_zone="Europe/Berlin")
    local = {}
    for hour, minute in ((0, 30), (1, 30), (2, 30)):
        at = datetime(2027, 10, 31, hour, minute, tzinfo=UTC)
        appointment = await book(client, clinic.patient(), doctor, at)
        assert (appointment["dateTime"], appointment["timeZone"]) == (wire(at), "Europe/Berlin")
        local[hour] = appointment["localDateTime"]
    assert local == {0: "2027-10-31T02:30:00", 1: "2027-10-31T02:30:00", 2: "2027-10-31T03:30:00"}


async def test_the_wall_clock_skips_an_hour_in_spring(client: httpx.AsyncClient, clinic: Clinic) -> None:
    """Berlin on 28 March 2027: 02:00 to 03:00 does not exist."""
    doctor = clinic.doctor(time_zone="Europe/Berlin")
    times = [datetime(2027, 3, 28, hour, 30, tzinfo=UTC) for hour in (0, 1)]
    appointments = [await book(client, clinic.patient(), doctor, at) for at in times]
    assert [appointment["localDateTime"] for appointment in appointments] == [
        "2027-03-28T01:30:00",
        "2027-03-28T03:30:00",
    ]


async def test_a_moved_appointment_is_agreed_on_in_the_doctors_present_zone(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor = clinic.doctor(time_zone="Europe/Berlin")
    appointment = await book(client, clinic.patient(), doctor)
    await database.execute("UPDATE users SET time_zone = 'Asia/Tokyo' WHERE id = $1", doctor.id)
    at = free_time()
    after = (await change(client, doctor, appointment, dateTime=wire(at))).json()
    assert (after["timeZone"], after["localDateTime"]) == ("Asia/Tokyo", (at + 9 * HOUR).isoformat()[:19])
