"""The audit trail of appointments."""

from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from services.kit.http.paging import encode_cursor
from services.standalone.databases import DatabaseUrls
from tests.booking.clinic import Clinic, assert_refused, book, change, free_time, post, request_for

NOTE = "a secret note"


async def entries(client: httpx.AsyncClient, clinic: Clinic, **query: Any) -> list[dict[str, Any]]:
    """Return entries, oldest first."""
    answer = await client.get("/api/appointments/audit", params=query, headers=clinic.admin().headers)
    assert answer.status_code == 200, answer.text
    return list(reversed(answer.json()["items"]))


def actors(found: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(one["action"], one["actorId"]) for one in found]


async def test_each_change_of_an_appointment_is_an_entry(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, doctor, admin = clinic.patient(), clinic.doctor(), clinic.admin()
    answer = await client.post(
        "/api/appointments",
        json=request_for(doctor, notes=NOTE),
        headers=patient.headers | {"X-Request-ID": "the-first", "X-Forwarded-For": "198.51.100.7"},
    )
    appointment = answer.json()
    assert (await change(client, doctor, appointment, status="CONFIRMED")).status_code == 200
    assert (await change(client, doctor, appointment, durationMinutes=45)).status_code == 200
    assert (await change(client, patient, appointment, status="CANCELLED", reason=NOTE)).status_code == 200
    assert (await change(client, admin, appointment, status="CONFIRMED", reason=NOTE)).status_code == 200
    found = await entries(client, clinic, target=appointment["id"])
    assert actors(found) == [
        ("appointment.created", str(patient.id)),
        ("appointment.changed", str(doctor.id)),
        ("appointment.rescheduled", str(doctor.id)),
        ("appointment.cancelled", str(patient.id)),
        ("appointment.corrected", str(admin.id)),
    ]
    first = found[0]
    assert (first["actorRole"], first["targetType"], first["result"]) == ("PATIENT", "appointment", "SUCCEEDED")
    # Without a proxy of ours before it, what the client says of its address is not believed.
    assert (first["requestId"], first["address"]) == ("the-first", "127.0.0.1")
    assert UUID(first["sessionId"]).version
    assert NOTE not in str(found)


async def test_overbooking_is_an_entry_of_its_own(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, at = clinic.doctor(), free_time()
    await book(client, clinic.patient(), doctor, at)
    squeezed = request_for(doctor, at, patientId=str(clinic.patient().id), overbook=True, reason="urgent")
    answer = await post(client, doctor, squeezed)
    assert answer.status_code == 201, answer.text
    found = await entries(client, clinic, target=answer.json()["id"])
    assert actors(found) == [("appointment.overbooked", str(doctor.id))]


async def test_what_did_not_happen_leaves_no_entry(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, doctor, at = clinic.patient(), clinic.doctor(), free_time()
    await book(client, patient, doctor, at)
    loser = clinic.patient()
    assert_refused(await post(client, loser, request_for(doctor, at)), 409, "slot_taken")
    assert await entries(client, clinic, actor=str(loser.id)) == []


async def test_refused_access_is_an_entry(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, doctor, stranger = clinic.patient(), clinic.doctor(), clinic.patient()
    appointment = await book(client, patient, doctor)
    path = f"/api/appointments/{appointment['id']}"
    assert (await client.get(path, headers=stranger.headers)).status_code == 404
    assert (await change(client, stranger, appointment, status="CANCELLED")).status_code == 404
    assert (await change(client, patient, appointment, status="CONFIRMED")).status_code == 403
    assert (await client.get("/api/appointments/audit", headers=stranger.headers)).status_code == 403
    refused = await entries(client, clinic, actor=str(stranger.id))
    assert [(one["action"], one["targetType"], one["targetId"], one["code"]) for one in refused] == [
        ("access.refused", "appointment", appointment["id"], "not_found"),
        ("access.refused", "appointment", appointment["id"], "not_found"),
        ("access.refused", "audit", None, "forbidden"),
    ]
    assert {one["result"] for one in refused} == {"REFUSED"}
    by_patient = await entries(client, clinic, actor=str(patient.id), action="access.refused")
    assert [one["code"] for one in by_patient] == ["forbidden"]


async def test_what_an_admin_reads_is_an_entry_and_what_parties_read_is_not(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    patient, doctor, admin = clinic.patient(), clinic.doctor(), clinic.admin()
    appointment = await book(client, patient, doctor)
    for reader in (patient, doctor, admin):
        for path in (f"/api/appointments/{appointment['id']}", f"/api/appointments/{appointment['id']}/history"):
            assert (await client.get(path, headers=reader.headers)).status_code == 200
    assert (await client.get("/api/appointments", headers=admin.headers)).status_code == 200
    read = await entries(client, clinic, action="record.read", actor=str(admin.id))
    assert [one["targetId"] for one in read] == [appointment["id"], appointment["id"], None]
    of_visit = await entries(client, clinic, target=appointment["id"], action="record.read")
    assert {one["actorId"] for one in of_visit} == {str(admin.id)}


async def test_the_trail_continues_on_the_next_page(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, doctor, admin = clinic.patient(), clinic.doctor(), clinic.admin()
    booked = [(await book(client, patient, doctor))["id"] for _ in range(3)]
    query: dict[str, Any] = {"actor": str(patient.id), "limit": 2}
    seen: list[str] = []
    while True:
        page = (await client.get("/api/appointments/audit", params=query, headers=admin.headers)).json()
        seen += [one["targetId"] for one in page["items"]]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
    assert seen == booked[::-1]


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "WyJhIl0"},
        {"cursor": encode_cursor(2**63)},
        {"actor": "x"},
        {"from": "2026-12-01"},
        {"from": "0001-01-01T00:00:00+23:59"},
        {"to": "9999-12-31T23:59:59-23:59"},
        {"limit": "101"},
    ],
)
async def test_a_malformed_question_is_refused(
    client: httpx.AsyncClient, clinic: Clinic, query: dict[str, str]
) -> None:
    answer = await client.get("/api/appointments/audit", params=query, headers=clinic.admin().headers)
    assert_refused(answer, 400, "invalid_request")


@pytest.mark.parametrize("table", ["audit_log", "audit_seals", "audit_expiries"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {}", "UPDATE {} SET {} = DEFAULT", "DROP TABLE {}"])
async def test_the_service_may_not_change_what_it_wrote(
    booking_database: DatabaseUrls, table: str, statement: str
) -> None:
    connection = await asyncpg.connect(booking_database.application)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement.format(table, "position" if table == "audit_expiries" else "seq"))
    await connection.close()


async def test_the_service_may_not_say_that_entries_have_expired(booking_database: DatabaseUrls) -> None:
    connection = await asyncpg.connect(booking_database.application)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("INSERT INTO audit_expiries (position, hash) VALUES (1, '')")
    await connection.close()
