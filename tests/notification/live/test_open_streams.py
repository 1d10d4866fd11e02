"""How many live streams may be open, and what closes them."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from time import time

import httpx
import pytest
from redis.asyncio import Redis

from services.contracts.events import UserState
from services.kit.http.service import Service
from services.notification import app
from services.notification.live import stream as live_stream
from services.notification.repository import Store
from tests.notification.documents import add, notification
from tests.notification.live.listening import listening, url_of
from tests.notification.services import has_metric, service_of
from tests.support.auth_stub import AuthStub
from tests.support.running import metrics_of
from tests.support.streams import Streams
from tests.support.waiting import eventually


async def test_a_comment_keeps_an_idle_stream_open(
    url: str, auth: AuthStub, patient: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_stream, "HEARTBEAT_SECONDS", 0.1)
    async with listening(url, patient.id, auth.bearer(patient)) as heard:
        await asyncio.sleep(0.3)

        async def holds() -> bool:
            return heard.blocks[1:4] == [{"": ""}] * 3

        await eventually(holds)


async def test_the_sixth_stream_is_refused_whichever_process_has_the_others(
    url: str, auth: AuthStub, mongodb_url: str, redis_url: str, patient: UserState, service: Service, streams: Streams
) -> None:
    mine = auth.bearer(patient)
    path = f"/api/notifications/{patient.id}/stream"
    async with url_of(service_of(auth, mongodb_url, redis_url)) as other_url:
        five = [listening(one, patient.id, mine) for one in (url, other_url, url, other_url, url)]
        await asyncio.gather(*(one.__aenter__() for one in five))
        async with httpx.AsyncClient(trust_env=False) as client:
            for one in (url, other_url):
                answer = await client.get(f"{one}{path}", headers=mine)
                assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
                assert int(answer.headers["retry-after"]) > 0
            assert await streams.redis.zcard(f"notification:streams:{patient.id}") == 5
            await five[0].__aexit__(None, None, None)

            async def opens() -> bool:
                async with client.stream("GET", f"{other_url}{path}", headers=mine) as sixth:
                    return sixth.status_code == 200

            await eventually(opens)
        for stream in five[1:]:
            await stream.__aexit__(None, None, None)


async def test_the_streams_of_a_process_that_was_killed_count_until_their_leases_end(
    url: str, client: httpx.AsyncClient, auth: AuthStub, streams: Streams, patient: UserState
) -> None:
    key = f"notification:streams:{patient.id}"
    seconds = int(time())
    await streams.redis.zadd(key, {str(number): seconds + 2 for number in range(5)})
    path, mine = f"/api/notifications/{patient.id}/stream", auth.bearer(patient)
    assert (await client.get(path, headers=mine)).status_code == 429

    async def opens() -> bool:
        async with client.stream("GET", path, headers=mine) as answer:
            return answer.status_code == 200

    await eventually(opens)


async def test_an_open_stream_renews_its_lease(
    auth: AuthStub, streams: Streams, mongodb_url: str, redis_url: str, patient: UserState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(app, "LEASE_SECONDS", 2)
    async with (
        url_of(service_of(auth, mongodb_url, redis_url)) as url,
        listening(url, patient.id, auth.bearer(patient)),
    ):
        await asyncio.sleep(4)
        assert await streams.redis.zcard(f"notification:streams:{patient.id}") == 1


async def test_a_client_that_leaves_takes_everything_with_it(
    url: str, service: Service, auth: AuthStub, streams: Streams, patient: UserState
) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(3):
        async with listening(url, patient.id, auth.bearer(patient)):
            await has_metric(service, "notification_streams_open", 1)
        await has_metric(service, "notification_streams_open", 0)
        await eventually(gone(streams.redis, patient))
    await has_metric(service, 'notification_streams_ended_total{reason="client"}', 3)

    async def as_before() -> bool:
        return len(asyncio.all_tasks()) <= before

    await eventually(as_before)


def gone(redis: Redis, user: UserState) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return not await redis.exists(f"notification:streams:{user.id}")

    return holds


async def test_a_reader_that_takes_nothing_is_cut_off(
    url: str, service: Service, auth: AuthStub, streams: Streams, store: Store,
    patient: UserState, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(live_stream, "STALLED_SECONDS", 1.0)
    long = "x" * 60_000
    many = [notification(patient, message=long) for _ in range(250)]
    for one in many:
        await add(store, one)
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = url.removeprefix("http://").split(":")
        lazy.connect((host, int(port)))
        token = auth.bearer(patient)["Authorization"]
        lazy.sendall(
            f"GET /api/notifications/{patient.id}/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
            f"Last-Event-ID: {many[0].id}\r\n\r\n".encode()
        )
        await has_metric(service, 'notification_streams_ended_total{reason="slow"}', 1)
        await has_metric(service, "notification_streams_open", 0)
        await eventually(gone(streams.redis, patient))
    assert (await metrics_of(service))["notification_streams_sent_total"] < 250


async def test_an_open_stream_counts_by_how_long_it_took_to_open_and_is_one_line_of_the_log(
    url: str, service: Service, auth: AuthStub, patient: UserState, capfd: pytest.CaptureFixture[str]
) -> None:
    async with listening(url, patient.id, auth.bearer(patient)):
        await asyncio.sleep(1.2)

    async def counted() -> bool:
        return any("/stream" in name for name in await metrics_of(service))

    await eventually(counted)
    metrics = await metrics_of(service)
    (requests,) = [value for name, value in metrics.items() if "/stream" in name and "http_requests_total" in name]
    (seconds,) = [value for name, value in metrics.items() if "/stream" in name and "duration_seconds_sum" in name]
    assert requests == 1
    assert seconds < 1
    lines = [line for line in capfd.readouterr().out.splitlines() if "/stream" in line]
    assert len(lines) == 1
