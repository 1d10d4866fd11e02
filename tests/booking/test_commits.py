"""A transaction whose COMMIT fails, or whose outcome the service does not learn."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import httpx
import pytest

from services.booking.app import create
from services.kit import schema
from services.standalone.databases import DatabaseUrls
from tests.booking.clinic import Clinic, assert_refused, book, ready, request_for, settings_of
from tests.support.auth_stub import AuthStub
from tests.support.databases import CloneDatabase
from tests.support.proxy import Proxy
from tests.support.running import client_of
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
async def own_database(clone_database: CloneDatabase, worker_id: str) -> DatabaseUrls:
    """A database of its own, because the tests create triggers."""
    return await clone_database("booking", f"booking_outages_{worker_id}")


@pytest.fixture
async def proxy(own_database: DatabaseUrls) -> AsyncIterator[Proxy]:
    async with Proxy.to(own_database.application) as proxy:
        yield proxy


@pytest.fixture
async def remote(proxy: Proxy, redis_url: str, auth: AuthStub) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose connections to its database go through the proxy."""
    async with client_of(create(settings_of(proxy.url, redis_url, auth))) as client:
        await ready(client)
        yield client
        proxy.heal()


@pytest.fixture
async def owner(own_database: DatabaseUrls) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(own_database.migration)
    yield connection
    await connection.execute("DROP TRIGGER IF EXISTS at_commit ON appointments")
    await connection.close()


async def at_commit(owner: asyncpg.Connection, do: str) -> None:
    await owner.execute(
        f"""
        CREATE OR REPLACE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {do}; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON appointments DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION at_commit();
        """
    )


async def test_a_booking_whose_commit_failed_can_be_repeated_with_its_key(
    remote: httpx.AsyncClient, owner: asyncpg.Connection, clinic: Clinic
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await book(remote, patient, doctor)
    headers = {**patient.headers, "Idempotency-Key": uuid4().hex}
    body = request_for(doctor)
    await at_commit(owner, "PERFORM pg_terminate_backend(pg_backend_pid())")
    answer = await remote.post("/api/appointments", json=body, headers=headers)
    assert_refused(answer, 503, "unavailable")
    assert answer.headers["retry-after"]
    await owner.execute("DROP TRIGGER at_commit ON appointments")
    again = await remote.post("/api/appointments", json=body, headers=headers)
    assert again.status_code == 201
    count = "SELECT count(*) FROM appointments WHERE patient_id = $1"
    assert await owner.fetchval(count, patient.id) == 2


async def test_a_booking_that_was_committed_while_its_answer_was_lost_is_made_once(
    remote: httpx.AsyncClient, owner: asyncpg.Connection, clinic: Clinic, proxy: Proxy
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await book(remote, patient, doctor)
    headers = {**patient.headers, "Idempotency-Key": uuid4().hex}
    body = request_for(doctor)
    await at_commit(owner, "PERFORM pg_advisory_xact_lock_shared(4242), pg_sleep(0.3)")
    first = asyncio.create_task(remote.post("/api/appointments", json=body, headers=headers))

    async def committing() -> bool:
        return bool(await owner.fetchval("SELECT true FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242"))

    await eventually(committing)
    proxy.hold_replies()
    assert_refused(await first, 503, "unavailable")
    proxy.heal()
    again = await remote.post("/api/appointments", json=body, headers=headers)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    count = "SELECT count(*) FROM appointments WHERE patient_id = $1"
    assert await owner.fetchval(count, patient.id) == 2


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_a_serialization_failure_at_commit_is_tried_again(
    remote: httpx.AsyncClient, owner: asyncpg.Connection, clinic: Clinic, state: str
) -> None:
    """A sequence counts the attempts: its value outlives the rollback."""
    doctor, patient = clinic.doctor(), clinic.patient()
    await book(remote, patient, doctor)
    await owner.execute("CREATE SEQUENCE IF NOT EXISTS attempts; ALTER SEQUENCE attempts RESTART")
    await owner.execute("GRANT USAGE ON SEQUENCE attempts TO PUBLIC")
    await at_commit(owner, f"IF nextval('attempts') < 3 THEN RAISE SQLSTATE '{state}'; END IF")
    appointment = await book(remote, patient, doctor)
    assert await owner.fetchval("SELECT last_value FROM attempts") == 3
    assert await owner.fetchval("SELECT count(*) FROM outbox WHERE aggregateid = $1", appointment["id"]) == 1


async def test_a_transaction_that_never_succeeds_is_a_503(
    remote: httpx.AsyncClient, owner: asyncpg.Connection, clinic: Clinic
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await book(remote, patient, doctor)
    await at_commit(owner, "RAISE SQLSTATE '40001'")
    answer = await remote.post("/api/appointments", json=request_for(doctor), headers=patient.headers)
    assert_refused(answer, 503, "unavailable")


async def test_questions_that_cannot_be_asked_stop_no_booking(
    own_database: DatabaseUrls,
    owner: asyncpg.Connection,
    redis_url: str,
    auth: AuthStub,
    clinic: Clinic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The attack as it was played, as if requests had no bounds for instants: in a burst, on many connections, each a
    statement of a shape of its own with a parameter that cannot be encoded. Then the server's limit for it passes.
    """
    filters: list[dict[str, str]] = [{}, {"status": "PENDING"}, {"doctorId": str(uuid4())}, {"patientId": str(uuid4())}]
    bounds = ({"from": "0001-01-01T00:00:00+23:59"}, {"to": "9999-12-31T23:59:59-23:59"})
    questions = [query | bound for query in filters for bound in bounds]
    patient = clinic.patient()
    database = await owner.fetchval("SELECT current_database()")
    # The migrations set it for the database of the service, and a copy of that has no settings of its roles.
    await owner.execute(f"ALTER ROLE booking_app IN DATABASE {database} SET statement_timeout = '800ms'")
    async with client_of(create(settings_of(own_database.application, redis_url, auth))) as client:
        await ready(client)

        async def ask(query: dict[str, str]) -> httpx.Response:
            return await client.get("/api/appointments", params=query, headers=patient.headers)

        for query in questions:
            assert_refused(await ask(query), 400, "invalid_request")
        monkeypatch.setattr(schema, "is_representable", lambda _: True)
        for answer in await asyncio.gather(*map(ask, questions)):
            assert answer.status_code >= 500  # or 503, where no connection was to be had in time
        await owner.execute("SELECT pg_sleep(1.2)")
        for _ in questions:
            await book(client, clinic.patient(), clinic.doctor())
        report = (await client.get("/api/health")).json()
        assert report["status"] == "ok"
