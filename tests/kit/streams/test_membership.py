"""Members of one group claim the entries of members that died or stopped, and no other entries."""

import asyncio

import pytest

from services.kit.streams import consumer as consumer_module
from services.kit.streams.events import DeadLetter
from tests.kit.streams.consuming import (
    GROUP,
    ConsumingService,
    Received,
    StoreAway,
    forever,
    is_pending,
    nothing_is_pending,
    pending,
    send,
)
from tests.support.proxy import Proxy
from tests.support.store import STREAM, Store
from tests.support.waiting import eventually, running


async def test_entries_of_a_dead_member_are_claimed(stream: Store) -> None:
    service = ConsumingService()
    await send(stream, 1, 2, 3)
    await stream.redis.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=2)
    async with running(service.consumer(stream, min_idle_seconds=0.3, upkeep_seconds=0.1).run):
        await eventually(lambda: len(service.handled) == 1)
        assert service.versions() == [3]
        await eventually(lambda: len(service.handled) == 3)
        await nothing_is_pending(stream)
    assert service.versions() == [1, 2, 3]


async def test_more_entries_than_one_claim_returns_are_all_claimed(stream: Store) -> None:
    service = ConsumingService()
    await send(stream, *range(1, 151))
    await stream.redis.xreadgroup(GROUP, "dead", {STREAM: ">"})
    await asyncio.sleep(0.2)
    async with running(service.consumer(stream, min_idle_seconds=0.1).run):
        await eventually(lambda: len(service.handled) == 150)
    assert service.versions() == list(range(1, 151))


async def test_an_entry_whose_reply_was_lost_is_claimed_back(
    stream: Store, redis_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "_BLOCK_SECONDS", 1.0)
    service = ConsumingService()
    consumer = service.consumer(stream, redis_url=redis_proxy.url, min_idle_seconds=0.3, upkeep_seconds=0.1)
    async with running(consumer.run):
        await send(stream, 1)
        await eventually(lambda: len(service.handled) == 1)
        await nothing_is_pending(stream)
        redis_proxy.hold_replies()
        await send(stream, 2)
        await eventually(lambda: is_pending(stream))
        redis_proxy.cut()
        assert service.versions() == [1]
        redis_proxy.heal()
        await eventually(lambda: len(service.handled) == 2)
        await nothing_is_pending(stream)


async def test_an_entry_that_this_member_is_handling_is_not_started_twice(stream: Store) -> None:
    service = ConsumingService()

    async def handle(envelope: Received) -> None:
        await service.handle(envelope)
        await asyncio.sleep(1)

    await send(stream, 1)
    async with running(service.consumer(stream, handle=handle, min_idle_seconds=0.1, upkeep_seconds=0.05).run):
        await eventually(lambda: len(service.handled) == 1)
        await nothing_is_pending(stream)
    assert service.versions() == [1]


async def test_an_entry_that_is_being_retried_is_not_claimed_by_another_member(stream: Store) -> None:
    retrying, other = ConsumingService(), ConsumingService()
    store_is_away = True

    async def handle(envelope: Received) -> None:
        if store_is_away:
            raise StoreAway
        await retrying.handle(envelope)

    await send(stream, 1)
    quick = {"min_idle_seconds": 1.5, "upkeep_seconds": 0.1}
    async with running(retrying.consumer(stream, handle=handle, **quick).run):
        await eventually(lambda: is_pending(stream))
        async with running(other.consumer(stream, **quick).run):
            await asyncio.sleep(2.5)
            store_is_away = False
            await nothing_is_pending(stream)
    assert (retrying.versions(), other.versions()) == ([1], [])


async def test_a_stopping_consumer_finishes_the_entries_that_it_has_begun(stream: Store) -> None:
    service = ConsumingService()
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


@pytest.mark.parametrize("trouble", ["hangs", "fails", "cannot be stored as a dead letter"])
async def test_an_entry_that_a_stopping_consumer_cannot_finish_is_offered_to_the_others(
    stream: Store, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(consumer_module, "_GRACE_SECONDS", 0.3)
    stopping, other = ConsumingService(), ConsumingService()
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
    assert await pending(stream) == 1
    # The other member claims it long before `min_idle_seconds`, after which any entry may be claimed.
    async with running(other.consumer(stream, min_idle_seconds=600, upkeep_seconds=0.1).run):
        await eventually(lambda: len(other.handled) == 1)
        await nothing_is_pending(stream)


async def test_idle_members_are_removed_unless_entries_are_pending_for_them(
    stream: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "_HOUR_MS", 300)
    service = ConsumingService()
    await send(stream, 1)
    await stream.redis.xreadgroup(GROUP, "crashed", {STREAM: ">"})
    await stream.redis.xgroup_createconsumer(STREAM, GROUP, "gone")
    await asyncio.sleep(0.5)

    async def members() -> set[str]:
        found = await stream.redis.xinfo_consumers(STREAM, GROUP)
        return {member["name"].decode() for member in found}

    async def gone_is_removed() -> bool:
        return "gone" not in await members()

    async with running(service.consumer(stream, upkeep_seconds=0.1).run):
        await eventually(gone_is_removed)
        assert "crashed" in await members()
    assert await pending(stream) == 1
