"""Readers that are slow or away fill the outbox, which has room, and not Redis' memory."""

from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from services.kit.postgres import relay as relay_module
from tests.kit.postgres.relaying import OFTEN, published, relay_of, stream_holds
from tests.support.store import GROUPS, STREAM, Store
from tests.support.waiting import eventually, running, without_hang


@pytest.fixture(autouse=True)
def ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_STREAM_ENTRIES", 10)
    monkeypatch.setattr(relay_module, "_BATCH", 4)


async def held_back(registry: CollectorRegistry, value: float) -> None:
    await eventually(lambda: registry.get_sample_value("outbox_held_back") == value)


async def take(store: Store, group: str, count: int) -> list[UUID]:
    """Read and acknowledge up to `count` entries as a member of `group`, and return their events' ids."""
    taken: list[UUID] = []
    for _, entries in await store.redis.xreadgroup(group, "reader", {STREAM: ">"}, count=count, block=50) or []:
        await store.redis.xack(STREAM, group, *(id_ for id_, _ in entries))
        taken += [UUID(fields[b"id"].decode()) for _, fields in entries]
    return taken


async def test_events_wait_in_the_outbox_while_the_stream_is_full(store: Store) -> None:
    registry = CollectorRegistry()
    written = await store.write(25)
    async with running(relay_of(store, registry=registry, upkeep_seconds=OFTEN).run):
        await stream_holds(store, *range(1, 11))
        await held_back(registry, 1)
        await eventually(lambda: registry.get_sample_value("outbox_unpublished_events") == 15)
        first = await take(store, "first", 10)
        second = await take(store, "second", 3)
        await stream_holds(store, *range(4, 14))
        async with without_hang():
            while len(first) < 25 or len(second) < 25:
                first += await take(store, "first", 10)
                second += await take(store, "second", 10)
        await stream_holds(store)
        await held_back(registry, 0)
    assert first == second == written


async def test_what_redis_lost_is_sent_again_as_far_as_the_stream_has_room(store: Store) -> None:
    registry = CollectorRegistry()
    written = await store.write(25)
    async with running(relay_of(store, registry=registry, upkeep_seconds=OFTEN).run):
        await stream_holds(store, *range(1, 11))
        assert [await take(store, group, 8) for group in GROUPS] == [written[:8]] * 2
        await stream_holds(store, *range(9, 19))
        await store.redis.flushdb()
        await stream_holds(store, *range(9, 19))
        assert [await take(store, group, 10) for group in GROUPS] == [written[8:18]] * 2
        await stream_holds(store, *range(19, 26))
        await published(store)
        assert [await take(store, group, 10) for group in GROUPS] == [written[18:]] * 2
        await stream_holds(store)
    assert registry.get_sample_value("outbox_resent_total") == 10


@pytest.mark.parametrize("groups", [(), ("first",)])
async def test_a_stream_with_high_numbers_and_no_entries_has_room(store: Store, groups: tuple[str, ...]) -> None:
    await store.redis.xadd(STREAM, {"from": "before"}, id="1000000-0")
    await store.redis.xtrim(STREAM, maxlen=0, approximate=False)
    for group in groups:
        await store.redis.xgroup_create(STREAM, group, "0")
    written = await store.write(3)
    async with running(relay_of(store).run):
        await published(store)
    assert await store.event_ids() == written
