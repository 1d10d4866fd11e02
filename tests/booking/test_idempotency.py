"""The Idempotency-Key of POST /api/appointments"""

import asyncio
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from services.booking.errors import IdempotencyKeyReused
from services.booking.idempotency import Answer, RequestKey, answer_once
from services.booking.models.messages import EXPIRING
from services.booking.time.locks import time_locks
from services.kit.metrics import create_registry
from services.kit.postgres.clean_up import CleanUp
from services.kit.postgres.database import Database
from services.standalone.databases import DatabaseUrls
from tests.booking.clinic import (
    Clinic,
    Person,
    assert_refused,
    book,
    change,
    free_time,
    is_lock_awaited,
    request_for,
    starts_in_the_past,
)
from tests.support.waiting import eventually


async def post(client: httpx.AsyncClient, person: Person, body: dict[str, Any], key: str) -> httpx.Response:
    return await client.post("/api/appointments", json=body, headers={**person.headers, "Idempotency-Key": key})


def assert_replayed(first: httpx.Response, again: httpx.Response) -> None:
    assert first.status_code == again.status_code == 201, again.text
    assert first.content == again.content
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    for header in ("location", "etag", "content-type"):
        assert first.headers[header] == again.headers[header]


async def test_a_repeated_request_gets_the_first_answer(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    patient, key = clinic.patient(), uuid4().hex
    body = request_for(clinic.doctor(), notes="Ü")
    first = await post(client, patient, body, key)
    assert_replayed(first, await post(client, patient, body, key))
    spelled_otherwise = dict(reversed(body.items())) | {"durationMinutes": 30, "overbook": False}
    assert_replayed(first, await post(client, patient, spelled_otherwise, key))
    count = "SELECT count(*) FROM appointments WHERE patient_id = $1"
    assert await database.fetchval(count, patient.id) == 1


async def test_the_first_answer_comes_again_whatever_has_happened_since(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, key = clinic.doctor(), clinic.patient(), uuid4().hex
    body = request_for(doctor)
    first = await post(client, patient, body, key)
    appointment = first.json()
    await change(client, doctor, appointment, status="CONFIRMED")
    assert_replayed(first, await post(client, patient, body, key))
    await change(client, patient, appointment, status="CANCELLED")
    assert_replayed(first, await post(client, patient, body, key))
    await starts_in_the_past(database, appointment, timedelta(hours=1))
    await database.execute("UPDATE users SET status = 'SUSPENDED' WHERE id = $1", doctor.id)
    assert_replayed(first, await post(client, patient, body, key))


async def test_a_key_belongs_to_one_request(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, key = clinic.patient(), uuid4().hex
    body = request_for(clinic.doctor())
    assert (await post(client, patient, body, key)).status_code == 201
    for other in (body | {"notes": "More"}, request_for(clinic.doctor())):
        assert_refused(await post(client, patient, other, key), 422, "idempotency_key_reused")


async def test_two_users_may_choose_the_same_key(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, key = clinic.doctor(), uuid4().hex
    for person in (clinic.patient(), clinic.patient()):
        answer = await post(client, person, request_for(doctor), key)
        assert answer.status_code == 201
        assert "idempotency-replayed" not in answer.headers


async def test_a_refusal_leaves_the_key_free(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, key, at = clinic.doctor(), clinic.patient(), uuid4().hex, free_time()
    taken = await book(client, clinic.patient(), doctor, at)
    body = request_for(doctor, at)
    assert_refused(await post(client, patient, body, key), 409, "slot_taken")
    await change(client, doctor, taken, status="CANCELLED")
    assert (await post(client, patient, body, key)).status_code == 201


@pytest.mark.parametrize("key", ["", " ", "a b", "a" * 256, "\x7f", "ü"])
async def test_a_malformed_key_is_refused(client: httpx.AsyncClient, clinic: Clinic, key: str) -> None:
    patient = clinic.patient()
    headers = {**patient.headers, "Idempotency-Key": key.encode("latin-1")}
    answer = await client.post("/api/appointments", json=request_for(clinic.doctor()), headers=headers)  # type: ignore[arg-type]
    assert_refused(answer, 400, "invalid_request", "Idempotency-Key")


async def test_two_keys_are_none(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, body = clinic.patient(), request_for(clinic.doctor())
    for keys, status in ((("one", "other"), 400), (("one", "one"), 201), (("one, other",), 400)):
        headers = [*patient.headers.items(), *[("Idempotency-Key", key) for key in keys]]
        answer = await client.post("/api/appointments", json=body, headers=headers)
        assert answer.status_code == status, answer.text


async def test_the_longest_key_is_taken(client: httpx.AsyncClient, clinic: Clinic) -> None:
    assert (await post(client, clinic.patient(), request_for(clinic.doctor()), "~" * 255)).status_code == 201


async def test_a_request_that_is_still_running_is_not_waited_for(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    """The first request waits for a lock on the table."""
    doctor, patient, key, at = clinic.doctor(), clinic.patient(), uuid4().hex, free_time()
    await book(client, patient, doctor)
    body = request_for(doctor, at)
    transaction = database.transaction()
    await transaction.start()
    await database.execute("LOCK appointments IN SHARE ROW EXCLUSIVE MODE")
    first = asyncio.create_task(post(client, patient, body, key))

    async def waits() -> bool:
        return await is_lock_awaited(database)

    await eventually(waits)
    second = await post(client, patient, body, key)
    assert_refused(second, 409, "request_in_progress")
    assert second.headers["retry-after"] == "1"
    await transaction.rollback()
    assert_replayed(await first, await post(client, patient, body, key))


async def test_keys_are_kept_for_a_day(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, booking_database: DatabaseUrls
) -> None:
    patient, old, young = clinic.patient(), uuid4().hex, uuid4().hex
    for key in (old, young):
        await post(client, patient, request_for(clinic.doctor()), key)
    aged = "UPDATE idempotency_keys SET created_at = now() - $2::text::interval WHERE key = $1"
    await database.execute(aged, old, "24 hours 1 minute")
    await database.execute(aged, young, "23 hours 59 minutes")
    store = Database(booking_database.application, registry=create_registry())
    await store.open()
    await CleanUp(store, create_registry(), *EXPIRING).work(asyncio.Event())
    await store.close()
    kept = await database.fetch("SELECT key FROM idempotency_keys WHERE user_id = $1", patient.id)
    assert [row["key"] for row in kept] == [young]


async def test_an_old_key_of_another_route_is_another_key(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    patient, key = clinic.patient(), uuid4().hex
    await post(client, patient, request_for(clinic.doctor()), key)
    await database.execute("UPDATE idempotency_keys SET route = 'POST /elsewhere' WHERE key = $1", key)
    answer = await post(client, patient, request_for(clinic.doctor()), key)
    assert (answer.status_code, UUID(answer.json()["id"]).version) == (201, 7)


async def test_any_work_is_answered_once(clinic: Clinic, booking_database: DatabaseUrls) -> None:
    """Also where the answer has no address and no version, and work does not store it."""
    key = RequestKey(user_id=clinic.patient().id, route="POST /elsewhere", key=uuid4().hex, fingerprint=b"1")
    store, answers = Database(booking_database.application, registry=create_registry()), count(1)
    await store.open()

    async def work() -> Answer:
        return Answer(status=200, body=f"{next(answers)}".encode())

    first = await store.transact(lambda connection: answer_once(connection, key, work, locks=time_locks()))
    again = await store.transact(lambda connection: answer_once(connection, key, work, locks=time_locks()))
    assert (first.body, first.headers) == (b"1", {})
    assert (again.body, again.headers) == (b"1", {"Idempotency-Replayed": "true"})
    with pytest.raises(IdempotencyKeyReused):
        await store.transact(
            lambda connection: answer_once(connection, replace(key, fingerprint=b"2"), work, locks=time_locks())
        )
    without = await store.transact(lambda connection: answer_once(connection, None, work, locks=time_locks()))
    assert without.body == b"2"
    await store.close()
