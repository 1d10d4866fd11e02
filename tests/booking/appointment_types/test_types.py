"""The appointment types of a doctor: GET, POST, PATCH and DELETE."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from services.booking.appointment_types.service import MOST
from services.contracts.enums import UserStatus
from tests.booking.appointment_types.offers import add, alter, listed, offer, types_path, withdraw
from tests.booking.clinic import Clinic, assert_refused, book

EVERYTHING: dict[str, Any] = {
    "name": "Video consultation",
    "durationMinutes": 45,
    "bufferBeforeMinutes": 5,
    "bufferAfterMinutes": 15,
    "price": "99.50",
    "mode": "VIDEO",
    "description": "Please bring earlier findings.",
    "requiresConfirmation": True,
    "bookableBy": "KNOWN_PATIENTS",
    "joinUrlTemplate": "https://meet.example.com/{room}?lang=en",
    "active": True,
    "position": 3,
}


async def test_what_is_added_is_what_the_doctor_reads(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    answer = await add(client, doctor, doctor, **EVERYTHING)
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"'), answer.text
    created = answer.json()
    assert answer.headers["location"] == types_path(doctor, created)
    assert {name: created[name] for name in EVERYTHING} == EVERYTHING
    seen = await client.get(answer.headers["location"], headers=doctor.headers)
    assert (seen.status_code, seen.headers["etag"], seen.json()) == (200, '"1"', created)
    assert await listed(client, doctor, doctor) == [created]


async def test_a_type_needs_a_name_and_a_length(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    created = await offer(client, doctor)
    assert {name: created[name] for name in EVERYTHING} == {
        "name": "Consultation",
        "durationMinutes": 30,
        "bufferBeforeMinutes": 0,
        "bufferAfterMinutes": 0,
        "price": None,
        "mode": "IN_PERSON",
        "description": None,
        "requiresConfirmation": None,
        "bookableBy": "EVERYONE",
        "joinUrlTemplate": None,
        "active": True,
        "position": 0,
    }
    assert (await offer(client, doctor))["position"] == 1


async def test_anyone_reads_the_active_ones_and_the_doctor_all(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, admin = clinic.doctor(), clinic.patient(), clinic.admin()
    second = await offer(client, doctor, **{**EVERYTHING, "position": 2})
    retired = await offer(client, doctor, active=False, position=1)
    first = await offer(client, doctor, position=0)
    for reader in (doctor, admin):
        assert await listed(client, doctor, reader) == [first, retired, second]
        assert (await client.get(types_path(doctor, retired), headers=reader.headers)).json() == retired
    for stranger in (None, patient, clinic.doctor()):
        assert await listed(client, doctor, stranger) == [first, second | {"joinUrlTemplate": None}]
    assert_refused(await client.get(types_path(doctor, retired)), 404, "type_not_found")
    assert (await client.get(types_path(doctor, second))).json()["joinUrlTemplate"] is None


async def test_the_list_continues_on_the_next_page(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    created = [await offer(client, doctor, position=position) for position in (1, 1, 0)]
    page = (await client.get(types_path(doctor), params={"limit": 2})).json()
    assert [one["id"] for one in page["items"]] == [created[2]["id"], created[0]["id"]]
    rest = (await client.get(types_path(doctor), params={"cursor": page["nextCursor"]})).json()
    assert ([one["id"] for one in rest["items"]], rest["nextCursor"]) == ([created[1]["id"]], None)


async def test_a_change_changes_what_it_names(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, admin = clinic.doctor(), clinic.admin()
    created = await offer(client, doctor, **EVERYTHING)
    cleared = dict.fromkeys(("price", "description", "requiresConfirmation", "joinUrlTemplate"))
    answer = await alter(client, admin, doctor, created, name="Another", price="7", mode="PHONE", joinUrlTemplate=None)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"'), answer.text
    after = answer.json()
    changed = {"name": "Another", "price": "7.00", "mode": "PHONE", "joinUrlTemplate": None, "version": 2}
    assert after == created | changed | {"updatedAt": after["updatedAt"]}
    assert (await alter(client, doctor, doctor, after, **cleared)).json()["version"] == 3
    same = await alter(client, doctor, doctor, after, name="Another", price=None)
    assert (same.json()["version"], same.json()["price"]) == (3, None)


async def test_a_stale_version_is_refused(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    created = await offer(client, doctor)
    changes = (alter(client, doctor, doctor, created, if_match='"1"', position=n + 1) for n in range(5))
    assert sorted(answer.status_code for answer in await asyncio.gather(*changes)) == [200] + [412] * 4
    assert_refused(await withdraw(client, doctor, doctor, created, if_match='"1"'), 412, "precondition_failed")
    assert (await withdraw(client, doctor, doctor, created, if_match='"2"')).status_code == 204


async def test_a_type_that_was_never_booked_is_deleted(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    created = await offer(client, doctor)
    answer = await withdraw(client, doctor, doctor, created)
    assert (answer.status_code, answer.content) == (204, b"")
    assert await listed(client, doctor, doctor) == []
    assert_refused(await withdraw(client, doctor, doctor, created), 404, "type_not_found")


async def test_a_type_that_was_booked_only_becomes_inactive(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    created = await offer(client, doctor)
    await book(client, patient, doctor, typeId=created["id"])
    for _ in range(2):
        answer = await withdraw(client, doctor, doctor, created)
        assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
        assert answer.json()["active"] is False
    assert await listed(client, doctor) == []
    assert await listed(client, doctor, doctor) == [answer.json()]
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await database.execute("DELETE FROM appointment_types WHERE id::text = $1", created["id"])


async def test_only_the_doctor_and_admins_write(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, admin = clinic.doctor(), clinic.admin()
    created = await offer(client, doctor)
    for stranger in (clinic.patient(), clinic.doctor()):
        assert_refused(await add(client, stranger, doctor), 403, "forbidden")
        assert_refused(await alter(client, stranger, doctor, created, position=1), 403, "forbidden")
        assert_refused(await withdraw(client, stranger, doctor, created), 403, "forbidden")
    nobody = doctor._replace(headers={})
    assert_refused(await add(client, nobody, doctor), 401, "unauthorized")
    assert_refused(await add(client, admin, clinic.patient()), 404, "doctor_not_found")
    assert_refused(await add(client, admin, doctor._replace(id=uuid4())), 404, "doctor_not_found")


async def test_a_type_of_another_doctor_does_not_exist(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, other = clinic.doctor(), clinic.doctor()
    created = await offer(client, doctor)
    await offer(client, other)
    assert_refused(await alter(client, other, other, created, position=1), 404, "type_not_found")
    assert_refused(await withdraw(client, other, other, created), 404, "type_not_found")
    assert_refused(await client.get(types_path(other, created)), 404, "type_not_found")
    assert_refused(await client.get(types_path(doctor) + "/1"), 404, "not_found")


async def test_a_doctor_who_waits_for_approval_is_seen_by_no_stranger(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient = clinic.doctor(UserStatus.PENDING), clinic.patient()
    created = await offer(client, doctor)
    assert await listed(client, doctor, doctor) == [created]
    for path in (types_path(doctor), types_path(doctor, created), types_path(patient)):
        assert_refused(await client.get(path), 404, "doctor_not_found")


async def test_a_doctor_has_fifty_types_at_most(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    created = [await offer(client, doctor, active=bool(number % 2)) for number in range(MOST - 2)]
    answers = await asyncio.gather(*(add(client, doctor, doctor) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409]
    assert_refused(await add(client, doctor, doctor), 409, "too_many_types")
    assert (await withdraw(client, doctor, doctor, created[0])).status_code == 204
    assert (await add(client, doctor, doctor)).status_code == 201


async def test_a_repeated_request_adds_one_type(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, other, admin = clinic.doctor(), clinic.doctor(), clinic.admin()
    by = admin._replace(headers={**admin.headers, "Idempotency-Key": uuid4().hex})
    first, again = [await add(client, by, doctor) for _ in range(2)]
    assert (again.status_code, again.content, again.headers["etag"]) == (201, first.content, '"1"')
    assert again.headers["idempotency-replayed"] == "true"
    assert_refused(await add(client, by, doctor, name="Another"), 422, "idempotency_key_reused")
    assert (await add(client, by, other)).json()["doctorId"] == str(other.id)
    assert len(await listed(client, doctor)) == 1


async def test_each_write_is_in_the_audit_trail(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor = clinic.doctor()
    created = await offer(client, doctor)
    await alter(client, doctor, doctor, created, position=9)
    await alter(client, doctor, doctor, created, position=9)
    await withdraw(client, doctor, doctor, created)
    query = "SELECT action FROM audit_log WHERE target_id::text = $1 AND actor_id = $2 ORDER BY seq"
    actions = [row["action"] for row in await database.fetch(query, created["id"], doctor.id)]
    assert actions == [f"appointment_type.{action}" for action in ("created", "changed", "deleted")]
