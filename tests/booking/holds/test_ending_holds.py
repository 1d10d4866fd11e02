"""GET and DELETE /api/holds, and what else becomes of a hold that is not booked."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from services.booking.models.messages import EXPIRING
from services.kit.metrics import create_registry
from services.kit.postgres.clean_up import CleanUp
from services.kit.postgres.database import Database
from services.standalone.databases import DatabaseUrls
from tests.booking.bus import Bus, erased
from tests.booking.clinic import (
    Clinic,
    assert_refused,
    book,
    free_time,
)
from tests.booking.holds.holding import expire, held, listed, release
from tests.support.waiting import without_hang

COUNT = "SELECT count(*) FROM appointments WHERE id = $1"


async def test_the_list_has_the_live_holds_that_the_caller_may_see(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, other, admin = clinic.doctor(), clinic.patient(), clinic.patient(), clinic.admin()
    first, second = [(await held(client, patient, doctor))["id"] for _ in range(2)]
    third = (await held(client, other, doctor))["id"]
    elsewhere = (await held(client, patient, clinic.doctor()))["id"]
    over = await held(client, clinic.patient(), doctor)
    await expire(database, over)
    assert await listed(client, patient) == [first, second, elsewhere]
    assert await listed(client, patient, doctorId=doctor.id) == [first, second]
    assert await listed(client, patient, patientId=other.id) == []
    assert await listed(client, doctor) == [first, second, third]
    assert await listed(client, doctor, patientId=patient.id) == [first, second]
    assert await listed(client, admin, patientId=patient.id) == [first, second, elsewhere]
    assert {first, second, third, elsewhere} <= set(await listed(client, admin, limit=100))
    assert over["id"] not in await listed(client, admin, limit=100)
    page = (await client.get("/api/holds", params={"limit": 2}, headers=doctor.headers)).json()
    assert [hold["id"] for hold in page["items"]] == [first, second]
    assert await listed(client, doctor, limit=2, cursor=page["nextCursor"]) == [third]


async def test_a_hold_is_no_appointment(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    hold = await held(client, patient, doctor, at)
    for person in (doctor, patient, clinic.admin()):
        answer = await client.get("/api/appointments", params={"doctorId": str(doctor.id)}, headers=person.headers)
        assert answer.json()["items"] == []
        path = f"/api/appointments/{hold['id']}"
        assert_refused(await client.get(path, headers=person.headers), 404, "not_found")
        assert_refused(await client.get(f"{path}/history", headers=person.headers), 404, "not_found")
        assert_refused(await client.patch(path, json={"notes": "x"}, headers=person.headers), 404, "not_found")
    assert await database.fetchval("SELECT count(*) FROM outbox WHERE aggregateid = $1", hold["id"]) == 0
    assert (
        await database.fetchval("SELECT count(*) FROM appointment_history WHERE appointment_id = $1", hold["id"]) == 0
    )


async def test_a_released_hold_is_free_at_once(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    for by in (patient, doctor, clinic.admin()):
        hold = await held(client, patient, doctor, at)
        answer = await release(client, by, hold)
        assert (answer.status_code, answer.content) == (204, b"")
        assert_refused(await release(client, by, hold), 404, "not_found")
    await book(client, clinic.patient(), doctor, at)


async def test_who_may_release(client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    hold, appointment = await held(client, patient, doctor), await book(client, patient, doctor)
    assert (await client.delete(f"/api/holds/{hold['id']}")).status_code == 401
    for stranger in (clinic.patient(), clinic.doctor()):
        assert_refused(await release(client, stranger, hold), 404, "not_found")
    assert_refused(await release(client, patient, appointment), 404, "not_found")
    assert_refused(await release(client, patient, {"id": "x"}), 404, "not_found")
    await expire(database, hold)
    assert_refused(await release(client, patient, hold), 404, "not_found")


async def test_holding_and_releasing_are_in_the_audit_trail(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    released, booked = await held(client, patient, doctor), await held(client, patient, doctor)
    await release(client, doctor, released)
    await book(client, patient, doctor, datetime.fromisoformat(booked["dateTime"]), holdId=booked["id"])

    async def entries(hold: dict[str, Any]) -> list[tuple[str, str, str]]:
        query = {"target": hold["id"]}
        answer = await client.get("/api/appointments/audit", params=query, headers=clinic.admin().headers)
        return [(one["action"], one["targetType"], one["actorId"]) for one in reversed(answer.json()["items"])]

    assert await entries(released) == [
        ("hold.created", "hold", str(patient.id)),
        ("hold.released", "hold", str(doctor.id)),
    ]
    assert await entries(booked) == [
        ("hold.created", "hold", str(patient.id)),
        ("appointment.created", "appointment", str(patient.id)),
    ]


async def test_the_clean_up_deletes_what_expired_an_hour_ago(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, booking_database: DatabaseUrls
) -> None:
    doctor = clinic.doctor()
    live, late, dead = [await held(client, clinic.patient(), doctor) for _ in range(3)]
    appointment = await book(client, clinic.patient(), doctor)
    await expire(database, late, timedelta(minutes=59))
    await expire(database, dead, timedelta(minutes=61))
    store = Database(booking_database.application, registry=create_registry())
    await store.open()
    async with without_hang():
        await CleanUp(store, create_registry(), *EXPIRING).work(asyncio.Event())
    await store.close()
    left = [await database.fetchval(COUNT, UUID(one["id"])) for one in (live, late, dead, appointment)]
    assert left == [1, 1, 0, 1]


async def test_an_erased_users_holds_go(
    client: httpx.AsyncClient, clinic: Clinic, bus: Bus, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for gone in (patient, doctor):
        hold = await held(client, clinic.patient() if gone is doctor else patient, doctor)
        other = await held(client, clinic.patient(), clinic.doctor())
        for _ in range(2):
            await bus.tell(erased(gone))
        assert [await database.fetchval(COUNT, UUID(one["id"])) for one in (hold, other)] == [0, 1]
