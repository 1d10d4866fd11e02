"""Live push: who may listen, what comes, from where, and how a stream ends."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import time
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from uuid_utils.compat import uuid7

from services.contracts.enums import Role, UserStatus
from services.contracts.events import SessionRevoked, UserState
from services.kit.auth import Principal
from services.kit.http.service import Service
from services.kit.signed_tokens import SignedTokens
from services.notification import app
from services.notification.directory.ended_sessions import EndedSessionRepository
from services.notification.directory.repository import UserRepository
from services.notification.inbox.schemas import Notification
from services.notification.live import service as live_service
from services.notification.live import stream as live_stream
from services.notification.live.announcements import CHANNEL
from services.notification.notifying.schemas import NotificationStatus
from services.notification.repository import Store
from tests.notification.conftest import has_metric, service_of
from tests.notification.documents import add, notification
from tests.notification.live.listening import listening, url_of
from tests.support.auth_stub import AuthStub
from tests.support.running import metrics_of
from tests.support.streams import Streams, appointment
from tests.support.waiting import eventually


@pytest.fixture
async def service(auth: AuthStub, streams: Streams, mongodb_url: str, redis_url: str) -> Service:
    return service_of(auth, mongodb_url, redis_url)


@pytest.fixture
async def url(service: Service) -> AsyncIterator[str]:
    async with url_of(service) as url:
        await subscribed(service)
        yield url


@pytest.fixture
def patient(auth: AuthStub) -> UserState:
    return auth.register(Role.PATIENT, "Bo Patient")


@pytest.fixture
def doctor(auth: AuthStub) -> UserState:
    return auth.register(Role.DOCTOR, "Ada Doctor")


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client


async def subscribed(service: Service) -> None:
    async def holds() -> bool:
        return (await metrics_of(service))["notification_live_connects_total"] > 0

    await eventually(holds)


def made_ago(seconds: float) -> UUID:
    """An id of that time."""
    bits = uuid7().int & ((1 << 80) - 1)
    return UUID(int=(int((time() - seconds) * 1000) << 80) | bits)


async def stored(store: Store, recipient: UserState, **changes: Any) -> Notification:
    """In MongoDB, and nobody hears of it."""
    one = notification(recipient, **changes)
    await add(store, one)
    return one


async def test_a_notification_arrives_as_the_list_has_it(
    url: str, client: httpx.AsyncClient, service: Service, auth: AuthStub, streams: Streams, patient: UserState,
    doctor: UserState, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 3600.0)
    mine = auth.bearer(patient)
    async with listening(url, patient.id, mine) as heard:
        headers = heard.response.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-store, no-transform"
        assert headers["x-accel-buffering"] == "no"
        await streams.tell(appointment(patient, doctor))
        await heard.count(1)
        await streams.tell(appointment(patient, doctor))
        await heard.count(2)
        listed = (await client.get(f"/api/notifications/{patient.id}", headers=mine)).json()["items"]
        assert heard.data == listed[::-1]
        assert heard.ids == [item["id"] for item in heard.data]
        assert {block["event"] for block in heard.blocks if "data" in block} == {"notification"}
    metrics = await metrics_of(service)
    assert metrics["notification_live_published_total"] == 2
    assert metrics["notification_streams_sent_total"] == 2


async def test_without_a_last_id_comes_what_is_new_and_first_an_id_to_resume_from(
    url: str, auth: AuthStub, store: Store, patient: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 0.1)
    mine = auth.bearer(patient)
    old = await stored(store, patient)
    async with listening(url, patient.id, mine) as heard:
        new = await stored(store, patient)
        await heard.has(new.id)
        assert heard.ids == [str(new.id)]
        (position,) = heard.blocks[:1]
        assert position.keys() == {"id"}
    meanwhile = await stored(store, patient)
    async with listening(url, patient.id, {**mine, "Last-Event-ID": position["id"]}) as resumed:
        await resumed.has(old.id, new.id, meanwhile.id)


async def test_resuming_repeats_a_minute_and_leaves_nothing_out(
    url: str, auth: AuthStub, store: Store, patient: UserState
) -> None:
    made = [await stored(store, patient, id=made_ago(seconds)) for seconds in (900, 665, 630, 600, 540, 300, 1)]
    last = str(made[3].id)
    for headers, query in (
        ({"Last-Event-ID": last}, {}),
        ({}, {"lastEventId": last}),
        ({"Last-Event-ID": last}, {"lastEventId": str(made[5].id)}),
    ):
        async with listening(url, patient.id, {**auth.bearer(patient), **headers}, **query) as heard:
            await heard.has(made[-1].id)
            assert heard.ids == [str(one.id) for one in made[2:]]


async def test_a_long_absence_is_sent_in_order_and_once(
    url: str, auth: AuthStub, store: Store, patient: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 0.1)
    made = [notification(patient, id=made_ago(1000 - number)) for number in range(350)]
    made += [notification(patient) for _ in range(30)]
    for one in made:
        await add(store, one)
    async with listening(url, patient.id, {**auth.bearer(patient), "Last-Event-ID": str(made[0].id)}) as heard:
        await heard.has(made[-1].id)
        await asyncio.sleep(0.5)  # several more looks
        assert heard.ids == [str(one.id) for one in made]


@pytest.mark.parametrize(
    "last", ["1", "1c7fc2e1-c1dc-4468-b24f-0f14ca2d4269", "{}", "00000000-0000-0000-0000-00000000000g"]
)
async def test_a_malformed_last_id_is_refused(
    client: httpx.AsyncClient, auth: AuthStub, patient: UserState, last: str
) -> None:
    path, mine = f"/api/notifications/{patient.id}/stream", auth.bearer(patient)
    by_header = await client.get(path, headers={**mine, "Last-Event-ID": last})
    by_query = await client.get(path, headers=mine, params={"lastEventId": last})
    for answer, name in ((by_header, "Last-Event-ID"), (by_query, "lastEventId")):
        assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, name)


async def test_what_has_not_arrived_in_the_app_is_not_streamed(
    url: str, auth: AuthStub, store: Store, patient: UserState, doctor: UserState
) -> None:
    await stored(store, patient, status=NotificationStatus.PENDING)
    await stored(store, doctor)
    seen = await stored(store, patient)
    async with listening(url, patient.id, {**auth.bearer(patient), "Last-Event-ID": str(uuid7())}) as heard:
        await heard.has(seen.id)
        assert heard.ids == [str(seen.id)]


async def test_a_lost_announcement_costs_a_delay_and_nothing_else(
    url: str, auth: AuthStub, store: Store, patient: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 0.5)
    async with listening(url, patient.id, auth.bearer(patient)) as heard:
        lost = await stored(store, patient)
        await heard.has(lost.id)


async def test_what_is_stored_ahead_of_time_is_streamed_when_it_is_visible(
    url: str, auth: AuthStub, store: Store, patient: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 0.1)
    hidden = notification(patient, id=made_ago(-3600))
    await add(store, hidden, visibleFrom=datetime.now(UTC) + timedelta(hours=1))
    async with listening(url, patient.id, auth.bearer(patient)) as heard:
        other = await stored(store, patient)
        await heard.has(other.id)
        assert heard.ids == [str(other.id)]
        await store["notifications"].update_one({"_id": hidden.id}, {"$set": {"visibleFrom": datetime.now(UTC)}})
        await heard.has(hidden.id)


async def test_more_announcements_than_are_remembered_lose_nothing(
    url: str, auth: AuthStub, streams: Streams, store: Store, patient: UserState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 3600.0)
    async with listening(url, patient.id, auth.bearer(patient)) as heard:
        made = [await stored(store, patient) for _ in range(600)]
        await streams.redis.publish(CHANNEL, msgspec.json.encode([(patient.id, one.id) for one in made]))
        await heard.has(*(one.id for one in made))
        assert len(heard.ids) == 600


async def test_what_is_stored_while_a_stream_opens_arrives(
    url: str, auth: AuthStub, streams: Streams, store: Store, patient: UserState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Right after the stream has read what is there, and before its client has the head of the answer."""
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 3600.0)
    one = notification(patient)
    begin = live_stream.LiveStream.begin

    async def begin_and_store(stream: live_stream.LiveStream, last_seen: UUID | None) -> None:
        await begin(stream, last_seen)
        await add(store, one)
        await streams.redis.publish(CHANNEL, msgspec.json.encode([(patient.id, one.id)]))
        await asyncio.sleep(0.2)

    monkeypatch.setattr(live_stream.LiveStream, "begin", begin_and_store)
    async with listening(url, patient.id, auth.bearer(patient)) as heard:
        await heard.has(one.id)


async def test_what_is_announced_again_is_neither_sent_nor_looked_for_again(
    url: str, auth: AuthStub, streams: Streams, store: Store, patient: UserState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 3600.0)
    work = live_stream.LiveStream._work
    works = 0

    async def counted_work(stream: live_stream.LiveStream, write: live_stream.Write) -> None:
        nonlocal works
        works += 1
        await work(stream, write)

    monkeypatch.setattr(live_stream.LiveStream, "_work", counted_work)
    one = await stored(store, patient)
    async with listening(url, patient.id, {**auth.bearer(patient), "Last-Event-ID": str(uuid7())}) as heard:
        await heard.has(one.id)
        for _ in range(3):
            await streams.redis.publish(CHANNEL, msgspec.json.encode([(patient.id, one.id)]))
        await asyncio.sleep(1)
        assert heard.ids == [str(one.id)]
        assert works <= 4


async def test_an_announcement_that_nobody_understands_ends_nothing(
    url: str, auth: AuthStub, streams: Streams, store: Store, patient: UserState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 3600.0)
    other = await stored(store, auth.register(Role.PATIENT))
    async with listening(url, patient.id, auth.bearer(patient)) as heard:
        for forged in (b"", b"\xff", b"{}", msgspec.json.encode([(patient.id, uuid7()), (patient.id, other.id)])):
            await streams.redis.publish(CHANNEL, forged)
        one = await stored(store, patient)
        await streams.redis.publish(CHANNEL, msgspec.json.encode([(patient.id, one.id)]))
        await heard.has(one.id)
        assert heard.ids == [str(one.id)]


async def test_nobody_else_may_listen(client: httpx.AsyncClient, auth: AuthStub, patient: UserState) -> None:
    other, admin = auth.register(Role.PATIENT), auth.register(Role.ADMIN)
    path = f"/api/notifications/{patient.id}"
    for headers, status in ((auth.bearer(other), 404), (auth.bearer(admin), 403), ({}, 401)):
        for answer in (
            await client.get(f"{path}/stream", headers=headers),
            await client.post(f"{path}/stream-ticket", headers=headers),
        ):
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_a_ticket_opens_one_stream_in_place_of_a_token(
    url: str, client: httpx.AsyncClient, auth: AuthStub, store: Store, streams: Streams,
    patient: UserState,
) -> None:  # fmt: skip
    seen = await stored(store, patient)
    answer = await client.post(f"/api/notifications/{patient.id}/stream-ticket", headers=auth.bearer(patient))
    assert answer.status_code == 201
    ticket = answer.json()["ticket"]
    (key,) = await streams.redis.keys("notification:ticket:*")
    assert ticket not in repr([key, await streams.redis.get(key)])
    async with listening(url, patient.id, {}, ticket=ticket, lastEventId=str(uuid7())) as heard:
        await heard.has(seen.id)
        again = await client.get(f"/api/notifications/{patient.id}/stream", params={"ticket": ticket})
        assert (again.status_code, again.json()["code"]) == (401, "invalid_ticket")


async def test_a_ticket_that_was_planted_in_redis_opens_nothing(
    client: httpx.AsyncClient, auth: AuthStub, streams: Streams, patient: UserState, service: Service
) -> None:
    attacker = auth.register(Role.PATIENT)
    own = await client.post(f"/api/notifications/{attacker.id}/stream-ticket", headers=auth.bearer(attacker))
    (key,) = await streams.redis.keys("notification:ticket:*")
    signed = await streams.redis.get(key)
    assert own.status_code == 201
    assert signed
    victim = Principal(id=patient.id, role="PATIENT", session_id=uuid7(), expires_at=int(time()) + 600)
    forged = SignedTokens([b"a key of the attacker's own"])
    for planted in (msgspec.json.encode(victim), forged.issue(msgspec.json.encode(victim)), signed, b"\xff", b""):
        await streams.redis.set(f"notification:ticket:{sha256(b'mine').hexdigest()}", planted, ex=30)
        answer = await client.get(f"/api/notifications/{patient.id}/stream", params={"ticket": "mine"})
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_ticket")


async def test_a_ticket_that_expired_or_is_somebody_elses_opens_nothing(
    client: httpx.AsyncClient, auth: AuthStub, patient: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = auth.register(Role.PATIENT)
    path = f"/api/notifications/{patient.id}"

    async def ticket(user: UserState) -> str:
        answer = await client.post(f"/api/notifications/{user.id}/stream-ticket", headers=auth.bearer(user))
        return str(answer.json()["ticket"])

    async def refusal(given: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        answer = await client.get(f"{path}/stream", params={"ticket": given}, headers=headers)
        return answer.status_code, answer.json()["code"]

    assert await refusal(await ticket(other)) == (401, "invalid_ticket")
    assert await refusal("") == (401, "invalid_ticket")
    assert await refusal("nobody's", auth.bearer(patient)) == (401, "invalid_ticket")
    monkeypatch.setattr(live_service, "TICKET_SECONDS", 1)
    expiring = await ticket(patient)
    await asyncio.sleep(1.2)
    assert await refusal(expiring) == (401, "invalid_ticket")


async def test_a_ticket_ends_with_the_token_that_asked_for_it(
    url: str, client: httpx.AsyncClient, auth: AuthStub, patient: UserState
) -> None:
    token = auth.issuer.token(patient.id, patient.role, exp=int(time()) + 4)
    headers = {"Authorization": f"Bearer {token}"}
    answer = await client.post(f"/api/notifications/{patient.id}/stream-ticket", headers=headers)
    async with listening(url, patient.id, {}, ticket=answer.json()["ticket"]) as heard:
        assert not heard.ended.is_set()
        await heard.ends()


async def test_a_stream_ends_with_its_token(url: str, service: Service, auth: AuthStub, patient: UserState) -> None:
    token = auth.issuer.token(patient.id, patient.role, exp=int(time()) + 3)
    async with listening(url, patient.id, {"Authorization": f"Bearer {token}"}) as heard:
        assert not heard.ended.is_set()
        await heard.ends()
    await has_metric(service, 'notification_streams_ended_total{reason="expired"}', 1)


async def test_a_token_that_lives_by_the_leeway_alone_opens_no_stream(
    client: httpx.AsyncClient, auth: AuthStub, patient: UserState
) -> None:
    token = auth.issuer.token(patient.id, patient.role, exp=int(time()) - 5)
    headers = {"Authorization": f"Bearer {token}"}
    path = f"/api/notifications/{patient.id}"
    assert (await client.get(path, headers=headers)).status_code == 200
    assert (await client.get(f"{path}/stream", headers=headers)).json()["code"] == "invalid_token"
    assert (await client.post(f"{path}/stream-ticket", headers=headers)).json()["code"] == "invalid_token"


async def test_a_suspended_account_gets_neither_stream_nor_ticket_and_an_open_one_ends(
    url: str, client: httpx.AsyncClient, auth: AuthStub, store: Store, patient: UserState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 0.2)
    mine, path = auth.bearer(patient), f"/api/notifications/{patient.id}"
    ticket = (await client.post(f"{path}/stream-ticket", headers=mine)).json()["ticket"]
    async with listening(url, patient.id, mine) as heard:
        await UserRepository(store).put(replace(patient, status=UserStatus.SUSPENDED, version=2))
        await heard.ends()
    for answer in (
        await client.get(f"{path}/stream", headers=mine),
        await client.get(f"{path}/stream", params={"ticket": ticket}),
        await client.post(f"{path}/stream-ticket", headers=mine),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "account_suspended")


async def test_a_session_that_ended_gets_neither_stream_nor_ticket_and_an_open_one_ends(
    url: str, client: httpx.AsyncClient, auth: AuthStub, store: Store, patient: UserState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(live_stream, "LOOK_AGAIN_SECONDS", 0.2)
    session, path = uuid7(), f"/api/notifications/{patient.id}"
    mine = {"Authorization": f"Bearer {auth.issuer.token(patient.id, patient.role, sid=str(session))}"}
    ticket = (await client.post(f"{path}/stream-ticket", headers=mine)).json()["ticket"]
    async with listening(url, patient.id, mine) as heard:
        expires_at = datetime.now(UTC) + timedelta(minutes=20)
        ended = SessionRevoked(session_id=session, user_id=patient.id, expires_at=expires_at)
        await EndedSessionRepository(store).add(ended)
        await heard.ends()
    for answer in (
        await client.get(f"{path}/stream", headers=mine),
        await client.get(f"{path}/stream", params={"ticket": ticket}),
        await client.post(f"{path}/stream-ticket", headers=mine),
    ):
        assert (answer.status_code, answer.json()["code"]) == (401, "session_revoked")


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


async def test_the_document_says_what_a_stream_is(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/docs/notification/openapi.json")).json()
    described = document["paths"]["/api/notifications/{userId}/stream"]["get"]
    assert described["responses"]["200"]["content"].keys() == {"text/event-stream"}
    assert described["responses"].keys() == {"200", "400", "401", "403", "404", "429", "503"}
    parameters = {(one["in"], one["name"]) for one in described["parameters"]}
    assert parameters >= {("query", "ticket"), ("query", "lastEventId"), ("header", "Last-Event-ID")}
