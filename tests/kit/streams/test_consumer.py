"""An entry is acknowledged after its effect is durable; what goes wrong loses none and does not hold up the others."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from uuid import UUID

import msgspec
import pytest
import structlog
from prometheus_client import CollectorRegistry
from uuid_utils.compat import uuid7

from services.kit import log
from services.kit.postgres.relay import Relay
from services.kit.streams import consumer as consumer_module
from services.kit.streams.consumer import Consumer
from services.kit.streams.events import DeadLetter, Envelope, EventMetrics, decode_entry
from tests.support.proxy import Proxy
from tests.support.store import GROUPS, STREAM, Store, ThingChanged
from tests.support.waiting import eventually, running

GROUP = "first"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Received = Envelope[ThingChanged]


class StoreAway(Exception):
    """What a handler meets while its database is down."""


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "_BLOCK_SECONDS", 0.2)
    monkeypatch.setattr(consumer_module, "_FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(consumer_module, "_LAST_RETRY_SECONDS", 0.1)


@pytest.fixture
async def stream(store: Store) -> Store:
    """The store, with a stream that has the group."""
    await store.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    return store


class Service:
    """A consuming service: remembers what it handled and what it had to put aside."""

    def __init__(self) -> None:
        self.handled: list[Received] = []
        self.letters: list[DeadLetter] = []
        self.registry = CollectorRegistry()
        self.metrics = EventMetrics(self.registry)

    async def handle(self, envelope: Received) -> None:
        self.handled.append(envelope)

    async def dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def versions(self) -> list[int]:
        return sorted(envelope.version for envelope in self.handled)

    def consumer(self, store: Store, **changes: Any) -> Consumer[ThingChanged]:
        settings: dict[str, Any] = {
            "redis_url": store.redis_url,
            "stream": STREAM,
            "group": GROUP,
            "decode": decode,
            "handle": self.handle,
            "dead_letter": self.dead_letter,
            "is_outage": lambda error: isinstance(error, StoreAway),
            "metrics": self.metrics,
        }
        return Consumer(**settings | changes)


def decode(payload: str) -> ThingChanged:
    return msgspec.json.decode(payload, type=ThingChanged)


def entry(version: int, /, **changes: Any) -> dict[str, Any]:
    fields = {
        "id": str(uuid7()),
        "type": "ThingChanged",
        "aggregateid": "some thing",
        "version": version,
        "payload": msgspec.json.encode(ThingChanged("some thing", version)),
        "created_at": "2026-12-01T09:30:00Z",
    }
    return fields | changes


async def send(store: Store, *versions: int) -> None:
    for version in versions:
        await store.redis.xadd(STREAM, entry(version), id=f"{version}-0")


async def pending(store: Store) -> int:
    found: int = (await store.redis.xpending(STREAM, GROUP))["pending"]
    return found


def nothing_is_pending(store: Store, within_seconds: float = 10.0) -> Awaitable[None]:
    async def holds() -> bool:
        return await pending(store) == 0

    return eventually(holds, within_seconds)


def forever() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def test_an_event_arrives_in_its_envelope(stream: Store) -> None:
    service = Service()
    fields = entry(7, traceparent=TRACE, request_id="a-request")
    await stream.redis.xadd(STREAM, fields, id="41-0")
    async with running(service.consumer(stream).run):
        await eventually(lambda: len(service.handled) == 1)
    assert service.handled == [
        Envelope(
            entry_id="41-0",
            id=UUID(fields["id"]),
            type="ThingChanged",
            aggregate_id="some thing",
            version=7,
            event=ThingChanged("some thing", 7),
            traceparent=TRACE,
            request_id="a-request",
            created_at=datetime(2026, 12, 1, 9, 30, tzinfo=UTC),
        )
    ]


async def test_a_handler_logs_under_the_request_and_the_trace_of_its_event(stream: Store) -> None:
    seen = []

    async def handle(_: Received) -> None:
        seen.append((log.request_id.get(), log.traceparent.get()))

    await stream.redis.xadd(STREAM, entry(1, traceparent=TRACE, request_id="a-request"))
    await stream.redis.xadd(STREAM, entry(2, traceparent="not a trace", request_id="forged\nline"))
    await stream.redis.xadd(STREAM, entry(3))
    async with running(Service().consumer(stream, handle=handle).run):
        await eventually(lambda: len(seen) == 3)
    assert sorted(seen, key=str) == [("a-request", TRACE), (None, None), (None, None)]


async def test_an_entry_is_acknowledged_only_after_its_handler_has_returned(stream: Store) -> None:
    durable = asyncio.Event()
    started = asyncio.Event()

    async def handle(_: Received) -> None:
        started.set()
        await durable.wait()

    await send(stream, 1)
    async with running(Service().consumer(stream, handle=handle).run):
        await started.wait()
        await asyncio.sleep(0.5)
        assert await pending(stream) == 1
        durable.set()
        await nothing_is_pending(stream)


async def test_no_more_is_read_than_can_be_handled_at_once(stream: Store) -> None:
    service = Service()
    released = asyncio.Event()
    most = now = 0

    async def handle(envelope: Received) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await released.wait()
        now -= 1
        await service.handle(envelope)

    await send(stream, *range(1, 201))
    async with running(service.consumer(stream, handle=handle).run):
        await eventually(lambda: now == 64)
        await asyncio.sleep(0.5)
        assert await pending(stream) == 64
        released.set()
        await eventually(lambda: len(service.handled) == 200)
        await nothing_is_pending(stream)
    assert most == 64
    assert service.versions() == list(range(1, 201))


async def test_what_a_dead_member_had_is_claimed(stream: Store) -> None:
    service = Service()
    await send(stream, 1, 2, 3)
    await stream.redis.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=2)
    async with running(service.consumer(stream, min_idle_seconds=0.3, upkeep_seconds=0.1).run):
        await eventually(lambda: len(service.handled) == 1)
        assert service.versions() == [3]
        await eventually(lambda: len(service.handled) == 3)
        await nothing_is_pending(stream)
    assert service.versions() == [1, 2, 3]


async def test_more_than_a_claim_takes_at_once_is_claimed_too(stream: Store) -> None:
    service = Service()
    await send(stream, *range(1, 151))
    await stream.redis.xreadgroup(GROUP, "dead", {STREAM: ">"})
    await asyncio.sleep(0.2)
    async with running(service.consumer(stream, min_idle_seconds=0.1).run):
        await eventually(lambda: len(service.handled) == 150)
    assert service.versions() == list(range(1, 151))


async def test_a_reply_that_got_lost_is_claimed_back(
    stream: Store, redis_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "_BLOCK_SECONDS", 1.0)
    service = Service()
    consumer = service.consumer(stream, redis_url=redis_proxy.url, min_idle_seconds=0.3, upkeep_seconds=0.1)
    async with running(consumer.run):
        await send(stream, 1)
        await eventually(lambda: len(service.handled) == 1)
        await nothing_is_pending(stream)
        redis_proxy.hold_replies()
        await send(stream, 2)
        await eventually(lambda: _is_pending(stream))
        redis_proxy.cut()
        assert service.versions() == [1]
        redis_proxy.heal()
        await eventually(lambda: len(service.handled) == 2)
        await nothing_is_pending(stream)


async def _is_pending(store: Store) -> bool:
    return await pending(store) == 1


async def test_an_entry_that_is_being_handled_here_is_not_started_twice(stream: Store) -> None:
    service = Service()

    async def handle(envelope: Received) -> None:
        await service.handle(envelope)
        await asyncio.sleep(1)

    await send(stream, 1)
    async with running(service.consumer(stream, handle=handle, min_idle_seconds=0.1, upkeep_seconds=0.05).run):
        await eventually(lambda: len(service.handled) == 1)
        await nothing_is_pending(stream)
    assert service.versions() == [1]


async def test_an_entry_that_is_being_retried_is_not_claimed_by_others(stream: Store) -> None:
    retrying, other = Service(), Service()
    away = True

    async def handle(envelope: Received) -> None:
        if away:
            raise StoreAway
        await retrying.handle(envelope)

    await send(stream, 1)
    quick = {"min_idle_seconds": 0.5, "upkeep_seconds": 0.1}
    async with running(retrying.consumer(stream, handle=handle, **quick).run):
        await eventually(lambda: _is_pending(stream))
        async with running(other.consumer(stream, **quick).run):
            await asyncio.sleep(1.5)
            away = False
            await nothing_is_pending(stream)
    assert (retrying.versions(), other.versions()) == ([1], [])


BROKEN: dict[str, dict[str, Any]] = {
    "no JSON": {"payload": "{"},
    "deep JSON": {"payload": "[" * 100_000},
    "not UTF-8": {"payload": b'{"type": "ThingChanged", "thing": "\xff", "version": 1}'},
    "a NUL": {"payload": b"\0"},
    "an unknown type": {"payload": '{"type": "FromTheFuture"}'},
    "a field missing": {"payload": '{"type": "ThingChanged", "thing": "x"}'},
    "no version": {"version": "x"},
    "no id": {"id": "x"},
    "a megabyte": {"payload": "x" * 1_000_000},
}


@pytest.mark.parametrize("changes", BROKEN.values(), ids=BROKEN.keys())
async def test_what_does_not_decode_is_a_dead_letter_before_it_is_acknowledged(
    stream: Store, changes: dict[str, Any]
) -> None:
    service = Service()
    pending_while_stored = []
    await stream.connection.execute("CREATE TEMP TABLE IF NOT EXISTS dead_letters (letter jsonb, error text)")

    async def dead_letter(letter: DeadLetter) -> None:
        await stream.connection.execute(
            "INSERT INTO dead_letters VALUES ($1, $2)", msgspec.json.encode(letter).decode(), letter.error
        )
        pending_while_stored.append(await pending(stream))
        await service.dead_letter(letter)

    await stream.redis.xadd(STREAM, entry(1, **changes), id="5-0")
    async with running(service.consumer(stream, dead_letter=dead_letter).run):
        await eventually(lambda: len(service.letters) == 1)
        await nothing_is_pending(stream)
    (letter,) = service.letters
    assert pending_while_stored == [1]
    assert (letter.stream, letter.group, letter.entry_id, letter.reason) == (STREAM, GROUP, "5-0", "undecodable")
    assert service.registry.get_sample_value("events_dead_letters_total", {"stream": STREAM}) == 1
    with pytest.raises((ValueError, RecursionError)):
        decode_entry(letter.entry_id, letter.fields, decode)


async def test_an_entry_without_any_field_of_an_event_is_a_dead_letter(stream: Store) -> None:
    service = Service()
    await stream.redis.xadd(STREAM, {"greeting": "hello"})
    async with running(service.consumer(stream).run):
        await eventually(lambda: len(service.letters) == 1)
    assert service.letters[0].fields == {"greeting": "hello"}


async def test_an_event_that_fails_eight_times_is_a_dead_letter_that_can_be_replayed(stream: Store) -> None:
    service = Service()
    attempts = 0

    async def handle(envelope: Received) -> None:
        nonlocal attempts
        attempts += 1
        assert await pending(stream) == 1
        raise ValueError(f"attempt {attempts}")

    await send(stream, 3)
    async with running(service.consumer(stream, handle=handle).run):
        await eventually(lambda: len(service.letters) == 1)
        await nothing_is_pending(stream)
    (letter,) = service.letters
    assert attempts == 8
    assert (letter.reason, letter.error) == ("failing", "ValueError: attempt 8")
    assert decode_entry(letter.entry_id, letter.fields, decode).event == ThingChanged("some thing", 3)


async def test_an_outage_is_waited_out_and_makes_no_dead_letter(stream: Store) -> None:
    service = Service()
    attempts = 0

    async def handle(envelope: Received) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 7:
            raise ValueError
        if attempts <= 20:
            raise StoreAway
        await service.handle(envelope)

    await send(stream, 1)
    async with running(service.consumer(stream, handle=handle).run):
        await eventually(lambda: len(service.handled) == 1)
        await nothing_is_pending(stream)
    assert service.letters == []
    counted = {"stream": STREAM, "type": "ThingChanged"}
    by_outcome = {
        outcome: service.registry.get_sample_value("events_handled_total", counted | {"outcome": outcome})
        for outcome in ("handled", "failed", "outage")
    }
    assert by_outcome == {"handled": 1, "failed": 7, "outage": 13}


@pytest.mark.parametrize("error", [StoreAway, ValueError])
async def test_a_dead_letter_that_cannot_be_stored_is_tried_until_it_can(stream: Store, error: type[Exception]) -> None:
    service = Service()
    attempts = 0

    async def dead_letter(letter: DeadLetter) -> None:
        nonlocal attempts
        attempts += 1
        assert await pending(stream) == 1
        if attempts <= 12:
            raise error
        await service.dead_letter(letter)

    await stream.redis.xadd(STREAM, entry(1, payload="{"))
    async with running(service.consumer(stream, dead_letter=dead_letter).run):
        await eventually(lambda: len(service.letters) == 1)
        await nothing_is_pending(stream)
    assert attempts == 13


async def test_a_failing_event_does_not_delay_its_neighbours(stream: Store) -> None:
    service = Service()

    async def handle(envelope: Received) -> None:
        if envelope.version % 10 == 1:
            raise StoreAway
        if envelope.version % 10 == 2:
            await forever()
        await service.handle(envelope)

    async with running(service.consumer(stream, handle=handle).run):
        await send(stream, *range(1, 101))
        await eventually(lambda: len(service.handled) == 80)
        assert await pending(stream) == 20


async def test_a_consumer_waits_for_the_relay_to_make_the_stream(store: Store) -> None:
    service = Service()
    async with running(service.consumer(store).run):
        await asyncio.sleep(0.5)
        await store.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        await send(store, 1)
        await eventually(lambda: len(service.handled) == 1)
        await store.redis.flushdb()
        await asyncio.sleep(0.5)
        await store.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        await send(store, 2)
        await eventually(lambda: len(service.handled) == 2)
    assert service.versions() == [1, 2]


async def test_a_consumer_reads_on_after_redis_was_away(stream: Store, redis_proxy: Proxy) -> None:
    service = Service()
    async with running(service.consumer(stream, redis_url=redis_proxy.url).run):
        await send(stream, 1)
        await eventually(lambda: len(service.handled) == 1)
        redis_proxy.cut()
        await send(stream, 2)
        await asyncio.sleep(1)
        redis_proxy.heal()
        await eventually(lambda: len(service.handled) == 2)


async def test_a_stopping_consumer_finishes_what_it_has_begun(stream: Store) -> None:
    service = Service()
    begun = asyncio.Event()

    async def handle(envelope: Received) -> None:
        begun.set()
        await asyncio.sleep(0.5)
        await service.handle(envelope)

    await send(stream, 1)
    async with running(service.consumer(stream, handle=handle).run):
        await begun.wait()
    assert service.versions() == [1]
    assert await pending(stream) == 0


@pytest.mark.parametrize("trouble", ["hangs", "fails", "cannot be put aside"])
async def test_what_a_stopping_consumer_cannot_finish_is_another_ones_at_once(
    stream: Store, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(consumer_module, "_GRACE_SECONDS", 0.3)
    stopping, other = Service(), Service()
    begun = asyncio.Event()

    async def handle(_: Received) -> None:
        begun.set()
        if trouble == "hangs":
            await forever()
        raise StoreAway if trouble == "fails" else ValueError

    async def dead_letter(_: DeadLetter) -> None:
        raise StoreAway

    await send(stream, 1)
    async with running(stopping.consumer(stream, handle=handle, dead_letter=dead_letter).run):
        await begun.wait()
        await asyncio.sleep(0.5)
        started = monotonic()
    assert monotonic() - started < 4
    assert await pending(stream) == 1
    # With the usual patience of half a minute before a member is taken for dead.
    async with running(other.consumer(stream, upkeep_seconds=0.1).run):
        await eventually(lambda: len(other.handled) == 1)
        await nothing_is_pending(stream)


async def test_members_that_have_gone_are_forgotten_but_never_with_something_pending(
    stream: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "_HOUR_MS", 300)
    service = Service()
    await send(stream, 1)
    await stream.redis.xreadgroup(GROUP, "crashed", {STREAM: ">"})
    await stream.redis.xgroup_createconsumer(STREAM, GROUP, "gone")
    await asyncio.sleep(0.5)

    async def members() -> set[str]:
        found = await stream.redis.xinfo_consumers(STREAM, GROUP)
        return {member["name"].decode() for member in found}

    async def gone_is_forgotten() -> bool:
        return "gone" not in await members()

    async with running(service.consumer(stream, upkeep_seconds=0.1).run):
        await eventually(gone_is_forgotten)
        assert "crashed" in await members()
    assert await pending(stream) == 1


async def test_lag_and_pending_are_measured(stream: Store) -> None:
    service = Service()
    released = asyncio.Event()

    async def handle(_: Received) -> None:
        await released.wait()

    def measured(name: str) -> float | None:
        return service.registry.get_sample_value(name, {"stream": STREAM})

    await send(stream, *range(1, 101))
    async with running(service.consumer(stream, handle=handle, upkeep_seconds=0.1).run):
        await eventually(lambda: (measured("events_pending"), measured("events_lag")) == (64, 36))
        # A deletion makes Redis lose track of the lag.
        await stream.redis.xdel(STREAM, "99-0")
        await asyncio.sleep(0.5)
        assert measured("events_lag") == 36
        released.set()
        await eventually(lambda: (measured("events_pending"), measured("events_lag")) == (0, 0))


async def test_no_log_line_has_anything_of_an_event_in_it(stream: Store) -> None:
    service = Service()

    async def handle(_: Received) -> None:
        raise ValueError("canary")

    await stream.redis.xadd(STREAM, entry(1, aggregateid="canary"))
    await stream.redis.xadd(STREAM, entry(1, payload='{"type": "canary"}'))
    with structlog.testing.capture_logs() as lines:
        async with running(service.consumer(stream, handle=handle).run):
            await eventually(lambda: len(service.letters) == 2)
    assert len(lines) >= 3
    assert "canary" not in str(lines)


async def test_every_event_reaches_every_group_though_redis_is_emptied_on_the_way(store: Store) -> None:
    services = {group: Service() for group in GROUPS}
    relay = Relay(
        database_url=store.database_url,
        redis_url=store.redis_url,
        stream=STREAM,
        groups=GROUPS,
        registry=CollectorRegistry(),
        upkeep_seconds=0.1,
    )
    written: list[UUID] = []

    async def delayed(service: Service) -> Callable[[Received], Awaitable[None]]:
        async def handle(envelope: Received) -> None:
            await asyncio.sleep(0.05)
            await service.handle(envelope)

        return handle

    consumers = [
        service.consumer(store, group=group, handle=await delayed(service), upkeep_seconds=0.5)
        for group, service in services.items()
    ]
    async with running(relay.run, *(consumer.run for consumer in consumers)):
        for _ in range(3):
            written += await store.write(150)
            relay.wake()
            await store.redis.flushdb()

        def all_have_arrived() -> bool:
            return all({envelope.id for envelope in service.handled} == set(written) for service in services.values())

        await eventually(all_have_arrived, within_seconds=20)
    assert all(service.letters == [] for service in services.values())
