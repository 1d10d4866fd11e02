"""A database that hangs or is away, Redis that hangs, and auth that is down."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from services.booking.app import MIGRATIONS, create
from services.contracts.events import UserUpdated
from services.kit.postgres.migrations import migrate
from services.standalone.databases import DatabaseUrls, create_database, create_databases, database_urls
from services.standalone.servers import Servers
from tests.booking.bus import Bus
from tests.booking.clinic import Clinic, Person, assert_refused, book, is_in_stream, ready, request_for, settings_of
from tests.support.auth_stub import AuthStub
from tests.support.frozen import family, freeze
from tests.support.proxy import Proxy
from tests.support.running import client_of
from tests.support.waiting import eventually, without_hang


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers of their own, because the tests freeze them."""
    with Servers(tmp_path_factory.mktemp("servers"), durable=False, mongodb=False) as servers:
        yield servers


@pytest.fixture(scope="module")
async def own_urls(own_servers: Servers) -> DatabaseUrls:
    urls = (await create_databases(own_servers.postgres_url, own_servers.kept))["booking"]
    await migrate(MIGRATIONS, migration_url=urls.migration, application_url=urls.application)
    return urls


@pytest.fixture
async def frail(own_servers: Servers, own_urls: DatabaseUrls, auth: AuthStub) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(create(settings_of(own_urls.application, own_servers.redis_url, auth))) as client:
        await ready(client)
        yield client


async def everything(
    client: httpx.AsyncClient, person: Person, doctor: Person, appointment: str
) -> list[httpx.Response]:
    path = f"/api/appointments/{appointment}"
    return await asyncio.gather(
        *(client.post("/api/appointments", json=request_for(doctor), headers=person.headers) for _ in range(30)),
        *(client.get("/api/appointments", headers=person.headers) for _ in range(10)),
        client.get(path, headers=person.headers),
        client.get(f"{path}/history", headers=person.headers),
        client.patch(path, json={"status": "CANCELLED"}, headers=person.headers),
        client.patch(path, json={"durationMinutes": 15}, headers=person.headers),
    )


async def test_a_frozen_database_is_a_503_and_forgotten_when_it_thaws(
    frail: httpx.AsyncClient, own_servers: Servers, clinic: Clinic
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(frail, patient, doctor)
    stopped = family(own_servers.pids["postgres"])
    freeze(*stopped)
    try:
        for _ in range(2):
            async with without_hang():
                answers = await everything(frail, patient, doctor, appointment["id"])
            for answer in answers:
                assert_refused(answer, 503, "unavailable")
                assert int(answer.headers["retry-after"]) >= 1
        health = await frail.get("/api/health")
        assert (health.status_code, health.json()["status"]) == (200, "unavailable")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    await ready(frail)
    await book(frail, patient, doctor)


async def test_bookings_are_made_while_redis_is_away_and_told_of_when_it_is_back(
    frail: httpx.AsyncClient, own_servers: Servers, clinic: Clinic
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()

    async def degraded() -> bool:
        return bool((await frail.get("/api/health")).json()["status"] == "degraded")

    freeze(own_servers.pids["valkey"])
    try:
        async with without_hang():
            appointment = await book(frail, patient, doctor)
        await eventually(degraded)
    finally:
        os.kill(own_servers.pids["valkey"], signal.SIGCONT)

    async def told() -> bool:
        return await is_in_stream(own_servers.redis_url, appointment)

    await eventually(told)


async def test_a_service_that_starts_without_its_database_waits_for_it(
    own_urls: DatabaseUrls, redis_url: str, auth: AuthStub, clinic: Clinic
) -> None:
    async with Proxy.to(own_urls.application) as proxy:
        proxy.cut()
        async with client_of(create(settings_of(proxy.url, redis_url, auth))) as client:
            assert (await client.get("/api/health")).status_code == 503
            assert (await client.get("/api/health/live")).status_code == 200
            answer = await client.get("/api/appointments", headers=clinic.patient().headers)
            assert answer.status_code == 503
            proxy.heal()
            await ready(client)
            assert (await client.get("/api/health")).status_code == 200


async def test_a_service_that_starts_while_auth_is_down_verifies_by_the_keys_it_kept(
    own_urls: DatabaseUrls, redis_url: str, auth: AuthStub, frail: httpx.AsyncClient, clinic: Clinic
) -> None:
    """The other process has fetched the keys and stored them in the database."""
    person = clinic.patient()
    assert (await frail.get("/api/appointments", headers=person.headers)).status_code == 200
    auth.up = False
    try:
        async with client_of(create(settings_of(own_urls.application, redis_url, auth))) as client:

            async def verifies() -> bool:
                return (await client.get("/api/appointments", headers=person.headers)).status_code == 200

            await eventually(verifies)
    finally:
        auth.up = True


async def test_events_wait_for_the_migration_of_a_service_that_starts_before_it(
    own_servers: Servers, auth: AuthStub
) -> None:
    superuser = await asyncpg.connect(own_servers.postgres_url)
    await create_database(superuser, own_servers.kept, "booking", "late")
    await superuser.close()
    urls = database_urls(own_servers.postgres_url, own_servers.kept, "booking", "late")
    connection = await asyncpg.connect(urls.migration)
    async with client_of(create(settings_of(urls.application, own_servers.redis_url, auth))) as client:
        assert (await client.get("/api/health")).status_code == 503
        async with Redis.from_url(own_servers.redis_url) as redis:
            bus = Bus(redis, auth.issuer)
            await bus.open()
            user = Clinic(auth).patient().state
            telling = asyncio.create_task(bus.tell(UserUpdated(user=user)))
            assert (await client.get("/api/health")).status_code == 503
            await migrate(MIGRATIONS, migration_url=urls.migration, application_url=urls.application)
            await telling
    assert await connection.fetchval("SELECT version FROM users WHERE id = $1", user.id) == user.version
    assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 0
    await connection.close()
