"""Live push while Redis or MongoDB is away, and among several processes: late at worst, never less."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import pytest
from prometheus_client import CollectorRegistry
from uuid_utils.compat import uuid7

from services.contracts.events import UserState
from services.kit.http.service import Service
from services.notification.indexes import migrate
from services.notification.live import stream as live_stream
from services.notification.live.announcements import CHANNEL, Announcer
from services.notification.live.repository import live_client
from services.notification.notifying.schemas import Channel, NewNotification, NotificationType
from services.notification.repository import Store
from services.standalone.servers import Servers
from tests.notification.documents import add, notification
from tests.notification.live.listening import listening, subscribed, url_of
from tests.notification.services import environment_of, service_of, store_of
from tests.support.auth_stub import AuthStub
from tests.support.frozen import freeze
from tests.support.process import Served, served
from tests.support.running import metrics_of
from tests.support.streams import Streams, appointment
from tests.support.waiting import HANG_SECONDS, eventually, without_hang


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
async def own_store(own: Servers) -> AsyncIterator[Store]:
    store = store_of(own.mongodb_url)
    yield store
    store.close()


@pytest.fixture
async def service(own: Servers, streams: Streams, auth: AuthStub) -> Service:
    return service_of(auth, own.mongodb_url, own.redis_url)


@pytest.fixture
async def url(service: Service) -> AsyncIterator[str]:
    async with url_of(service) as url:
        await subscribed(service, 1)
        yield url


def kill_redis(own: Servers) -> None:
    os.kill(own.pids["valkey"], signal.SIGKILL)


def freeze_redis(own: Servers) -> None:
    freeze(own.pids["valkey"])


def thaw_redis(own: Servers) -> None:
    os.kill(own.pids["valkey"], signal.SIGCONT)


async def no_subscriber(streams: Streams) -> None:
    async def holds() -> bool:
        return (await streams.redis.pubsub_numsub(CHANNEL))[0][1] == 0

    await eventually(holds)


@pytest.mark.parametrize(
    ("fail", "heal"), [(kill_redis, Servers.start), (freeze_redis, thaw_redis)], ids=["killed", "frozen"]
)
async def test_what_is_stored_while_redis_is_away_arrives_when_it_is_back(
    url: str, own: Servers, service: Service, auth: AuthStub, own_store: Store, patient: UserState,
    monkeypatch: pytest.MonkeyPatch, fail: Callable[[Servers], None], heal: Callable[[Servers], None],
) -> None:  # fmt: skip
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 3600.0)
    monkeypatch.setattr(live_stream, "HEARTBEAT_SECONDS", 0.2)
    async with listening(url, patient.id, auth.bearer(patient)) as heard:
        connects = (await metrics_of(service))["notification_live_connects_total"]
        await asyncio.to_thread(fail, own)
        try:
            missed = [notification(patient) for _ in range(3)]
            for one in missed:
                await add(own_store, one)
            await asyncio.sleep(7)  # until the silence of a frozen one has been noticed
            beats = len(heard.blocks)
            await asyncio.sleep(1)
            assert len(heard.blocks) > beats
            assert heard.ids == []
            async with listening(url, patient.id, auth.bearer(patient)) as late:
                assert not late.ended.is_set()
            assert (await metrics_of(service))["notification_streams_uncounted_total"] > 0
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                refused = await client.post(
                    f"/api/notifications/{patient.id}/stream-ticket", headers=auth.bearer(patient)
                )
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        finally:
            await asyncio.to_thread(heal, own)
        await subscribed(service, connects + 1)
        await heard.has(*(one.id for one in missed))
        assert heard.ids == [str(one.id) for one in missed]


async def test_a_redis_that_hangs_neither_delays_nor_fails_who_announces(own: Servers) -> None:
    registry = CollectorRegistry()
    redis = live_client(own.redis_url)
    announcer = Announcer(redis, registry)
    new = NewNotification(
        id=uuid7(),
        event_id=uuid7(),
        channel=Channel.IN_APP,
        type=NotificationType.APPOINTMENT_CREATED,
        event="{}",
        created_at=datetime.now(UTC),
        request_id=None,
        traceparent=None,
        recipient_id=uuid7(),
    )
    freeze_redis(own)
    try:
        async with without_hang():
            for _ in range(1000):
                announcer.announce([new])
            await announcer.close()
    finally:
        thaw_redis(own)
        await redis.aclose()
    assert registry.get_sample_value("notification_live_publish_failures_total") == 1000
    assert registry.get_sample_value("notification_live_published_total") == 0


async def test_a_stream_stays_open_while_mongodb_is_away_and_tells_then_and_none_opens(
    url: str, own: Servers, auth: AuthStub, own_store: Store, patient: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 0.2)
    monkeypatch.setattr(live_stream, "HEARTBEAT_SECONDS", 0.2)
    async with listening(url, patient.id, auth.bearer(patient)) as heard:
        freeze(own.pids["mongodb"])
        try:
            await asyncio.sleep(3)
            beats = len(heard.blocks)
            await asyncio.sleep(5)
            assert len(heard.blocks) > beats
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=HANG_SECONDS) as client:
                refused = await client.get(f"/api/notifications/{patient.id}/stream", headers=auth.bearer(patient))
            assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
            assert int(refused.headers["retry-after"]) > 0
        finally:
            os.kill(own.pids["mongodb"], signal.SIGCONT)

        async def stores() -> bool:
            try:
                await add(own_store, one)
            except Exception:
                return False
            return True

        one = notification(patient)
        await eventually(stores)
        await heard.has(one.id)
        assert not heard.ended.is_set()


@asynccontextmanager
async def notification_process(auth: AuthStub, own: Servers) -> AsyncIterator[Served]:
    """A replica as a process, ready and subscribed to the live channel."""
    async with served("notification", environment_of(auth, own.mongodb_url, own.redis_url)) as replica:

        async def subscribed() -> bool:
            return await replica.metric("notification_live_connects_total") > 0

        await eventually(subscribed)
        yield replica


async def test_what_one_process_stores_another_ones_stream_has_at_once(
    own: Servers, auth: AuthStub, streams: Streams, patient: UserState, doctor: UserState
) -> None:
    async with (
        notification_process(auth, own) as first,
        notification_process(auth, own) as second,
        listening(first.process.url, patient.id, auth.bearer(patient)) as at_first,
        listening(second.process.url, patient.id, auth.bearer(patient)) as at_second,
    ):
        for count in range(1, 41):
            await streams.tell(appointment(patient, doctor))
            await at_first.count(count)
            await at_second.count(count)
        assert at_first.ids == at_second.ids
        handled = 'events_handled_total{outcome="handled",stream="booking.appointments"'
        for replica in (first, second):
            assert await replica.metric(handled) > 0
            assert await replica.metric("notification_streams_catch_ups_total") == 0


async def test_a_process_that_stops_sends_its_streams_away_and_ends(
    own: Servers, auth: AuthStub, streams: Streams, patient: UserState
) -> None:
    async with notification_process(auth, own) as (process, *_):
        async with (
            listening(process.url, patient.id, auth.bearer(patient)) as one,
            listening(process.url, patient.id, auth.bearer(patient)) as other,
        ):
            process.send(signal.SIGTERM)
            for heard in (one, other):
                await heard.ends()
                assert 1000 <= int(heard.blocks[-1]["retry"]) <= 5000
        assert await asyncio.to_thread(process.wait, HANG_SECONDS) == 0
        assert "Traceback" not in process.output
        assert "exceeded" not in process.output


async def test_tickets_are_not_in_the_log(own: Servers, auth: AuthStub, streams: Streams, patient: UserState) -> None:
    async with notification_process(auth, own) as (process, client, _):
        made = await client.post(f"/api/notifications/{patient.id}/stream-ticket", headers=auth.bearer(patient))
        ticket = made.json()["ticket"]
        async with listening(process.url, patient.id, {}, ticket=ticket):
            pass
        refused = await client.get(f"/api/notifications/{patient.id}/stream", params={"ticket": ticket})
        assert refused.status_code == 401

        async def logged() -> bool:
            return len(re.findall(r'"route":"/api/notifications/\{userId\}/stream"', process.output)) == 2

        await eventually(logged)
        assert ticket not in process.output
        assert f'"subject":"{patient.id}"' in process.output.splitlines()[-1] + process.output.splitlines()[-2]
