"""Every path locks the doctor's time, then the patient's, then rows: one other order on one path is a deadlock."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import asyncpg
import httpx
import pytest

from services.booking.app import create
from services.booking.appointments.time_zones import TimeZoneRecheck
from services.booking.idempotency import Answer, RequestKey, answer_once
from services.booking.time.locks import lock_key, lock_time, time_locks
from services.kit.metrics import create_registry
from services.kit.postgres.database import Database
from services.kit.zones import TZDATA_VERSION
from services.standalone.databases import DatabaseUrls
from tests.booking.clinic import Clinic, Person, book, change, changed, free_time, post, request_for, settings_of, wire
from tests.booking.holds.holding import booking_of, hold_of
from tests.support.auth_stub import AuthStub
from tests.support.round_trips import Sent, record_connections, sent_by
from tests.support.running import client_of
from tests.support.waiting import eventually

LOCKING = ("pg_advisory_xact_lock", "begin_request")
WRITING = ("FOR UPDATE OF appointments", "INSERT INTO appointments", "UPDATE appointments")
_KEYS = """
    SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND pid = $1 AND granted = $2
"""


@pytest.fixture
async def client(
    monkeypatch: pytest.MonkeyPatch, booking_database: DatabaseUrls, redis_url: str, auth: AuthStub
) -> AsyncIterator[httpx.AsyncClient]:
    record_connections(monkeypatch)
    async with client_of(create(settings_of(booking_database.application, redis_url, auth))) as client:
        yield client


def assert_locks_time_before_rows(sent: list[Sent], doctor: Person, patient: Person) -> None:
    locking = [number for number, one in enumerate(sent) if any(text in one.query for text in LOCKING)]
    writing = [number for number, one in enumerate(sent) if any(text in one.query for text in WRITING)]
    assert len(locking) == 1, sent
    assert writing, sent
    assert locking[0] < min(writing), sent
    keys = [lock_key("doctor", str(doctor.id)), lock_key("patient", str(patient.id))]
    assert [argument for argument in sent[locking[0]].arguments if argument in keys] == keys


@pytest.mark.parametrize("key", [None, "a-key"])
async def test_a_booking_locks_time_before_rows(client: httpx.AsyncClient, clinic: Clinic, key: str | None) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    headers = patient.headers | ({"Idempotency-Key": key} if key else {})
    booked, sent = await sent_by(client.post("/api/appointments", json=request_for(doctor), headers=headers))
    assert booked.status_code == 201
    assert_locks_time_before_rows(sent, doctor, patient)


async def test_a_hold_and_its_booking_lock_time_before_rows(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    holding, sent = await sent_by(client.post("/api/holds", json=hold_of(doctor), headers=patient.headers))
    assert holding.status_code == 201
    assert_locks_time_before_rows(sent, doctor, patient)
    booked, sent = await sent_by(post(client, patient, booking_of(holding.json())))
    assert booked.status_code == 201
    assert_locks_time_before_rows(sent, doctor, patient)


async def test_a_change_that_claims_time_locks_time_before_rows(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, admin, at = clinic.doctor(), clinic.patient(), clinic.admin(), free_time()
    appointment = (await post(client, patient, request_for(doctor, at))).json()
    for by, update in (
        (patient, {"dateTime": wire(at + timedelta(hours=1))}),
        (doctor, {"durationMinutes": 45}),
    ):
        moved, sent = await sent_by(change(client, by, appointment, **update))
        assert moved.status_code == 200
        assert_locks_time_before_rows(sent, doctor, patient)
    await changed(client, patient, appointment, status="CANCELLED")
    _, sent = await sent_by(changed(client, admin, appointment, status="CONFIRMED", reason="By mistake"))
    assert_locks_time_before_rows(sent, doctor, patient)


async def test_a_move_to_other_rules_of_a_zone_locks_time_before_rows(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, booking_database: DatabaseUrls
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(client, patient, doctor)
    await database.execute("UPDATE appointments SET tzdata_version = $1", TZDATA_VERSION)
    await database.execute(
        "UPDATE appointments SET tzdata_version = '2000.1', wall_time = wall_time + interval '1 hour' WHERE id = $1",
        appointment["id"],
    )
    store = Database(booking_database.application, registry=create_registry())
    await store.open()
    rechecked, sent = await sent_by(TimeZoneRecheck(store).run())
    await store.close()
    assert [one.outcome for one in rechecked] == ["moved"]
    begun = max(number for number, one in enumerate(sent) if any(text in one.query for text in LOCKING))
    assert_locks_time_before_rows(sent[begun:], doctor, patient)


@pytest.mark.parametrize("with_key", [False, True])
async def test_the_doctors_time_is_locked_while_the_patients_is_waited_for(
    booking_database: DatabaseUrls, database: asyncpg.Connection, with_key: bool
) -> None:
    """The order in which PostgreSQL takes the locks of one statement, seen in its own table of locks."""
    doctor_id, patient_id = uuid4(), uuid4()
    doctors, patients = lock_key("doctor", str(doctor_id)), lock_key("patient", str(patient_id))
    waiting = await asyncpg.connect(booking_database.migration)
    pid = waiting.get_server_pid()

    async def lock() -> None:
        async with waiting.transaction():
            if with_key:
                key = RequestKey(user_id=uuid4(), route="POST /api/appointments", key="a-key", fingerprint=b"")
                locks = time_locks(doctor_id=doctor_id, patient_id=patient_id)
                await answer_once(waiting, key, answer, locks=locks)
            else:
                await lock_time(waiting, doctor_id=doctor_id, patient_id=patient_id)

    async def answer() -> Answer:
        return Answer(status=201, body=b"", stored=True)

    async def waits() -> bool:
        return await keys(granted=False) == {patients}

    async def keys(*, granted: bool) -> set[int]:
        return {row[0] for row in await database.fetch(_KEYS, pid, granted)}

    await database.execute("SELECT pg_advisory_lock($1)", patients)
    locking = asyncio.create_task(lock())
    await eventually(waits)
    assert doctors in await keys(granted=True)
    await database.execute("SELECT pg_advisory_unlock($1)", patients)
    await locking
    await waiting.close()
