"""MongoDB hangs, dies and comes back: an answer in time, and nothing lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing

import httpx
import pytest

from services.contracts.enums import Role
from services.kit.http.service import Service
from services.notification.directory.token_keys import TokenKeyRepository
from services.notification.indexes import migrate
from services.standalone.servers import Servers
from tests.notification.services import migrated, service_of, store_of
from tests.support import frozen
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of, metrics_of
from tests.support.streams import Streams, appointment
from tests.support.waiting import eventually, without_hang


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that may be stopped, frozen and killed."""
    with Servers(tmp_path_factory.mktemp("servers"), durable=False, postgres=False) as servers:
        migrate(servers.mongodb_url)
        yield servers


@pytest.fixture
async def streams(own: Servers, auth: AuthStub) -> AsyncIterator[Streams]:
    async with Streams.of(own.redis_url, auth.issuer) as streams:
        yield streams


@pytest.fixture
async def service(own: Servers, streams: Streams, auth: AuthStub) -> Service:
    return service_of(auth, own.mongodb_url, own.redis_url)


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service) as client:
        await ready(client)
        yield client


async def ready(client: httpx.AsyncClient) -> None:
    async def holds() -> bool:
        return bool((await client.get("/api/health")).json()["checks"]["mongodb"]["status"] == "ok")

    await eventually(holds)


async def asked_everything(client: httpx.AsyncClient, auth: AuthStub) -> list[httpx.Response]:
    """Each route at once, several times; every answer comes, whatever MongoDB does."""
    user, admin = auth.register(Role.PATIENT), auth.register(Role.ADMIN)
    path, mine = f"/api/notifications/{user.id}", auth.bearer(user)
    async with without_hang():
        return await asyncio.gather(
            *(client.get(path, headers=mine) for _ in range(30)),
            *(client.post(f"{path}/read", json={"all": True}, headers=mine) for _ in range(5)),
            *(client.get("/api/notifications/stats", headers=auth.bearer(admin)) for _ in range(5)),
        )


async def everything_is_answered(client: httpx.AsyncClient, auth: AuthStub) -> bool:
    return {answer.status_code for answer in await asked_everything(client, auth)} == {200}


def assert_unavailable(answers: list[httpx.Response]) -> None:
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) >= 1
        assert "mongo" not in answer.text.lower()


async def test_a_frozen_mongodb_is_a_503_and_forgotten_when_it_thaws(
    own: Servers, client: httpx.AsyncClient, auth: AuthStub
) -> None:
    freeze(own)
    try:
        for _ in range(2):
            assert_unavailable(await asked_everything(client, auth))
        health = await client.get("/api/health")
        assert (health.status_code, health.json()["status"]) == (200, "unavailable")
    finally:
        os.kill(own.pids["mongodb"], signal.SIGCONT)
    await ready(client)
    await eventually(lambda: everything_is_answered(client, auth))


async def test_a_killed_mongodb_is_a_503_and_forgotten_when_it_is_back(
    own: Servers, client: httpx.AsyncClient, auth: AuthStub
) -> None:
    os.kill(own.pids["mongodb"], signal.SIGKILL)
    await eventually(lambda: asyncio.to_thread(lambda: "mongodb" in own.dead()))
    assert_unavailable(await asked_everything(client, auth))
    await asyncio.to_thread(own.start)
    await ready(client)
    await eventually(lambda: everything_is_answered(client, auth))


async def test_a_service_that_starts_before_its_store_is_ready_when_the_store_is(own: Servers, auth: AuthStub) -> None:
    os.kill(own.pids["mongodb"], signal.SIGKILL)
    async with client_of(service_of(auth, own.mongodb_url, own.redis_url)) as client:
        health = await client.get("/api/health")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        assert_unavailable(await asked_everything(client, auth))
        await asyncio.to_thread(own.start)
        await ready(client)
        assert (await client.get("/api/health")).status_code == 200


async def test_a_wrong_password_never_becomes_ready(own: Servers, auth: AuthStub) -> None:
    url = own.mongodb_url.replace("platform:", "platform:not-")
    async with client_of(service_of(auth, url, own.redis_url)) as client:
        assert_unavailable(await asked_everything(client, auth))
        assert (await client.get("/api/health")).status_code == 503


def freeze(own: Servers) -> None:
    frozen.freeze(own.pids["mongodb"])


def thaw(own: Servers) -> None:
    os.kill(own.pids["mongodb"], signal.SIGCONT)


def kill(own: Servers) -> None:
    os.kill(own.pids["mongodb"], signal.SIGKILL)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(("fail", "heal"), [(freeze, thaw), (kill, Servers.start)], ids=["frozen", "killed"])
async def test_what_is_told_while_mongodb_is_away_is_told_once_when_it_is_back_and_is_no_dead_letter(
    service: Service,
    own: Servers,
    streams: Streams,
    auth: AuthStub,
    fail: Callable[[Servers], None],
    heal: Callable[[Servers], None],
) -> None:
    patient, doctor = auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    away = asyncio.Event()

    async def book() -> None:
        for number in range(150):
            await streams.tell(appointment(patient, doctor))
            if number == 50:
                await asyncio.to_thread(fail, own)
                away.set()
            await asyncio.sleep(0.02)

    booking = asyncio.create_task(book())
    await away.wait()
    await asyncio.sleep(4)
    assert await streams.pending() > 0
    await asyncio.to_thread(heal, own)
    await booking
    await streams.settled()
    metrics = await metrics_of(service)
    attempts = 'events_handled_total{{outcome="{}",stream="booking.appointments",type="AppointmentCreated"}}'
    assert metrics[attempts.format("outage")] > 0
    assert attempts.format("failed") not in metrics
    with closing(store_of(own.mongodb_url)) as store:
        recipients = {"recipientId": {"$in": [patient.id, doctor.id]}}
        found = await store["notifications"].find(recipients).to_list(None)
        assert len(found) == 300
        assert len({(one["eventId"], one["recipientId"]) for one in found}) == 300
        assert await store["dead_letters"].count_documents({}) == 0


async def test_a_service_that_starts_while_auth_is_down_verifies_by_the_keys_that_were_kept(
    own: Servers, auth: AuthStub
) -> None:
    url = await migrated(own.mongodb_url.replace("/?", "/kept?"))
    user = auth.register(Role.PATIENT)
    path = f"/api/notifications/{user.id}"
    async with client_of(service_of(auth, url, own.redis_url)) as client:

        async def kept() -> bool:
            return await TokenKeyRepository(store).load() == auth.issuer.jwks

        with closing(store_of(url)) as store:
            await eventually(kept)
        assert (await client.get(path, headers=auth.bearer(user))).status_code == 200
    auth.up = False
    try:
        async with client_of(service_of(auth, url, own.redis_url)) as client:
            await ready(client)
            assert (await client.get(path, headers=auth.bearer(user))).status_code == 200
    finally:
        auth.up = True
