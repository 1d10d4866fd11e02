"""An entry is acknowledged after its effect is durable. An error loses no entry and delays no other one."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
import structlog
from prometheus_client import CollectorRegistry

from services.kit import log
from services.kit.postgres.relay import Relay
from services.kit.streams import consumer as consumer_module
from services.kit.streams.events import Envelope
from tests.kit.streams.consuming import (
    GROUP,
    TRACE,
    ConsumingService,
    Received,
    StoreAway,
    entry,
    forever,
    nothing_is_pending,
    pending,
    send,
)
from tests.support.proxy import Proxy
from tests.support.store import GROUPS, STREAM, Store, ThingChanged
from tests.support.waiting import eventually, running


async def test_a_handler_receives_the_event_in_its_envelope(stream: Store) -> None:
    service = ConsumingService()
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
    async with running(ConsumingService().consumer(stream, handle=handle).run):
        await eventually(lambda: len(seen) == 3)
    assert sorted(seen, key=str) == [("a-request", TRACE), (None, None), (None, None)]


async def test_an_entry_is_acknowledged_only_after_its_handler_has_returned(stream: Store) -> None:
    durable = asyncio.Event()
    started = asyncio.Event()

    async def handle(_: Received) -> None:
        started.set()
        await durable.wait()

    await send(stream, 1)
    async with running(ConsumingService().consumer(stream, handle=handle).run):
        await started.wait()
        await asyncio.sleep(0.5)
        assert await pending(stream) == 1
        durable.set()
        await nothing_is_pending(stream)


async def test_no_more_entries_are_read_than_can_be_handled_at_once(stream: Store) -> None:
    service = ConsumingService()
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


async def test_a_failing_event_does_not_delay_the_others(stream: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "_GRACE_SECONDS", 0.1)
    service = ConsumingService()

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


async def test_a_consumer_waits_until_the_relay_creates_the_stream(store: Store) -> None:
    service = ConsumingService()
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


async def test_a_consumer_continues_after_an_outage_of_redis(stream: Store, redis_proxy: Proxy) -> None:
    service = ConsumingService()
    async with running(service.consumer(stream, redis_url=redis_proxy.url).run):
        await send(stream, 1)
        await eventually(lambda: len(service.handled) == 1)
        redis_proxy.cut()
        await send(stream, 2)
        await asyncio.sleep(1)
        redis_proxy.heal()
        await eventually(lambda: len(service.handled) == 2)


async def test_lag_and_pending_are_measured(stream: Store) -> None:
    service = ConsumingService()
    released = asyncio.Event()

    async def handle(_: Received) -> None:
        await released.wait()

    def measured(name: str) -> float | None:
        return service.registry.get_sample_value(name, {"stream": STREAM})

    await send(stream, *range(1, 101))
    async with running(service.consumer(stream, handle=handle, upkeep_seconds=0.1).run):
        await eventually(lambda: (measured("events_pending"), measured("events_lag")) == (64, 36))
        # After a deletion Redis no longer reports the lag.
        await stream.redis.xdel(STREAM, "99-0")
        await asyncio.sleep(0.5)
        assert measured("events_lag") == 36
        released.set()
        await eventually(lambda: (measured("events_pending"), measured("events_lag")) == (0, 0))


async def test_no_log_line_contains_any_part_of_an_event(stream: Store) -> None:
    service = ConsumingService()

    async def handle(_: Received) -> None:
        raise ValueError("canary")

    await stream.redis.xadd(STREAM, entry(1, aggregateid="canary"))
    await stream.redis.xadd(STREAM, entry(1, payload='{"type": "canary"}'))
    with structlog.testing.capture_logs() as lines:
        async with running(service.consumer(stream, handle=handle).run):
            await eventually(lambda: len(service.letters) == 2)
    assert len(lines) >= 3
    assert "canary" not in str(lines)


async def test_every_event_reaches_every_group_although_redis_is_emptied_in_between(store: Store) -> None:
    services = {group: ConsumingService() for group in GROUPS}
    relay = Relay(
        database_url=store.database_url,
        redis_url=store.redis_url,
        stream=STREAM,
        groups=GROUPS,
        registry=CollectorRegistry(),
        upkeep_seconds=0.1,
    )
    written: list[UUID] = []

    async def delayed(service: ConsumingService) -> Callable[[Received], Awaitable[None]]:
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

        await eventually(all_have_arrived)
    assert all(service.letters == [] for service in services.values())
