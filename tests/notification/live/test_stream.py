"""What arrives on a live stream, from where, and in which order."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import msgspec
import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import Role
from services.contracts.events import UserState
from services.kit.http.service import Service
from services.notification.live import stream as live_stream
from services.notification.live.announcements import CHANNEL
from services.notification.notifying.schemas import NotificationStatus
from services.notification.repository import Store
from tests.notification.documents import add, notification
from tests.notification.live.listening import listening, made_ago, stored
from tests.support.auth_stub import AuthStub
from tests.support.running import metrics_of
from tests.support.streams import Streams, appointment


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


async def test_the_document_says_what_a_stream_is(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/docs/notification/openapi.json")).json()
    described = document["paths"]["/api/notifications/{userId}/stream"]["get"]
    assert described["responses"]["200"]["content"].keys() == {"text/event-stream"}
    assert described["responses"].keys() == {"200", "400", "401", "403", "404", "429", "503"}
    parameters = {(one["in"], one["name"]) for one in described["parameters"]}
    assert parameters >= {("query", "ticket"), ("query", "lastEventId"), ("header", "Last-Event-ID")}
