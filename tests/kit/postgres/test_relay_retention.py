"""Events are kept until every reader has acknowledged them, and sent again when Redis loses them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from uuid_utils.compat import uuid7

from services.kit.postgres import relay as relay_module
from services.kit.postgres.relay import Relay
from services.standalone.servers import Servers
from tests.kit.postgres.relaying import (
    OFTEN,
    acknowledged_through,
    groups_exist,
    numbers_in_postgres,
    published,
    relay_of,
    stream_holds,
)
from tests.support.store import GROUPS, STREAM, Store
from tests.support.waiting import eventually, running


async def test_an_emptied_redis_gets_every_event_again_that_was_not_acknowledged(store: Store) -> None:
    async with running(relay_of(store, upkeep_seconds=OFTEN).run):
        written = await store.write(6)
        await published(store)
        await store.acknowledge("first", 4)
        await store.acknowledge("second", 2)
        await acknowledged_through(store, 2)
        await store.redis.flushdb()
        await stream_holds(store, 3, 4, 5, 6)
        assert await store.event_ids() == written[2:]
        await store.write()
        await stream_holds(store, 3, 4, 5, 6, 7)
        await store.acknowledge("second", 5)
        await asyncio.sleep(OFTEN * 4)
        # The first group had acknowledged 4 in the Redis before, but has read no entry of this one.
        assert await store.acked_through() == 2
        await store.acknowledge("first", 5)
        await acknowledged_through(store, 7)


async def test_a_redis_restored_from_a_snapshot_gets_the_events_that_it_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_BATCH", 20)
    async with running(relay_of(store).run):
        written = await store.write(40)
        await published(store)
        snapshot = await store.redis.dump(STREAM)
        lost = await store.write(210)
        await published(store)
        await store.redis.restore(STREAM, 0, snapshot, replace=True)
        # Batches follow each other without a pause.
        await stream_holds(store, *range(1, 251))
    assert await store.event_ids() == written + lost


async def test_a_stream_that_is_ahead_of_postgresql_is_continued(store: Store) -> None:
    await store.redis.xadd(STREAM, {"from": "before the backup was restored"}, id="900-0")
    await store.write(2)
    async with running(relay_of(store).run):
        await published(store)
        await stream_holds(store, 900, 901, 902)
    assert list(await numbers_in_postgres(store)) == [901, 902]


async def test_events_that_are_sent_again_are_counted(store: Store) -> None:
    registry = CollectorRegistry()
    async with running(relay_of(store, registry=registry).run):
        await store.write(3)
        await published(store)
        await store.redis.flushdb()
        await stream_holds(store, 1, 2, 3)
        await eventually(lambda: registry.get_sample_value("outbox_resent_total") == 3)
    assert registry.get_sample_value("outbox_published_total") == 3


async def test_an_entry_stays_until_every_group_has_acknowledged_it(store: Store) -> None:
    async with running(relay_of(store, upkeep_seconds=OFTEN).run):
        await store.write(10)
        await published(store)
        await store.acknowledge("first", 8)
        await asyncio.sleep(OFTEN * 4)
        await stream_holds(store, *range(1, 11))
        ((_, entries),) = await store.redis.xreadgroup("second", "slow", {STREAM: ">"}, count=7)
        await store.redis.xack(STREAM, "second", *(id_ for id_, _ in entries if id_ not in {b"3-0", b"5-0"}))
        await stream_holds(store, *range(3, 11))
        assert await store.acked_through() == 2
        await store.redis.xack(STREAM, "second", "3-0")
        await stream_holds(store, *range(5, 11))
        await store.redis.xack(STREAM, "second", "5-0")
        await stream_holds(store, *range(8, 11))
        await store.acknowledge("second", 3)
        await store.acknowledge("first", 2)
        await stream_holds(store)
        assert await store.acked_through() == 10


async def test_a_missing_group_is_created_again_and_until_then_nothing_is_trimmed(store: Store) -> None:
    relay = relay_of(store, upkeep_seconds=OFTEN)
    async with running(relay.run):
        await store.write(3)
        await published(store)
        await store.redis.xgroup_destroy(STREAM, "second")
        await store.acknowledge("first", 3)
        await asyncio.sleep(OFTEN * 4)
        assert await store.acked_through() == 0
        await groups_exist(store)
        await store.acknowledge("second", 3)
        await acknowledged_through(store, 3)


async def test_an_acknowledged_event_stays_acknowledged_when_redis_is_emptied(store: Store) -> None:
    relay = relay_of(store, upkeep_seconds=OFTEN)
    async with running(relay.run):
        await store.write(4)
        await published(store)
        for group in GROUPS:
            await store.acknowledge(group, 4)
        await acknowledged_through(store, 4)
        await store.redis.flushdb()
        await groups_exist(store)
        await asyncio.sleep(OFTEN * 4)
        assert await store.acked_through() == 4
        assert await store.entries() == []


async def test_a_new_event_never_gets_a_number_that_is_acknowledged(store: Store) -> None:
    """Otherwise it would count as acknowledged: trimmed, and not sent again."""
    relay = relay_of(store, upkeep_seconds=OFTEN, retention=timedelta(0))
    async with running(relay.run):
        await store.write(4)
        await published(store)
        for group in GROUPS:
            await store.acknowledge(group, 4)

        async def deleted() -> bool:
            return not await numbers_in_postgres(store)

        await eventually(deleted)
    await store.redis.flushdb()
    async with running(relay_of(store, upkeep_seconds=OFTEN).run):
        (written,) = await store.write()
        await stream_holds(store, 5)
        await asyncio.sleep(OFTEN * 4)
        assert await store.event_ids() == [written]
        await store.redis.flushdb()
        await stream_holds(store, 5)


async def test_old_rows_are_deleted_only_when_they_are_acknowledged(store: Store) -> None:
    old = await store.write(4)
    await store.connection.execute("UPDATE outbox SET created_at = now() - interval '8 days'")
    young = await store.write(2)
    async with running(relay_of(store, upkeep_seconds=OFTEN).run):
        await published(store)
        await asyncio.sleep(OFTEN * 4)
        assert len(await numbers_in_postgres(store)) == 6
        for group in GROUPS:
            await store.acknowledge(group, 3)
        await stream_holds(store, 4, 5, 6)
        assert list((await numbers_in_postgres(store)).values()) == [old[3], *young]
        for group in GROUPS:
            await store.acknowledge(group, 3)
        await stream_holds(store)
        assert list((await numbers_in_postgres(store)).values()) == young


async def test_an_event_that_every_reader_has_acknowledged_leaves_redis_file_too(
    tmp_path: Path, outbox_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_FIRST_REWRITE_SECONDS", 0.0)
    monkeypatch.setattr(relay_module, "_REWRITE_SECONDS", 0.0)
    canary = f"Ada {uuid7()}"

    def kept() -> bool:
        while True:
            files = (tmp_path / "valkey" / "appendonlydir").glob("*")
            with suppress(FileNotFoundError):  # a rewrite has replaced a file: look again
                return any(canary.encode() in file.read_bytes() for file in files)

    with Servers(tmp_path, postgres=False, mongodb=False) as servers:
        async with Redis.from_url(servers.redis_url) as redis:
            await redis.xadd(STREAM, {"payload": canary}, id="1-0")
            for group in GROUPS:
                await redis.xgroup_create(STREAM, group, "0")
            await asyncio.to_thread(_until, kept)
            relay = Relay(
                database_url=outbox_url,
                redis_url=servers.redis_url,
                stream=STREAM,
                groups=GROUPS,
                registry=CollectorRegistry(),
                upkeep_seconds=OFTEN,
            )
            async with running(relay.run):
                for group in GROUPS:
                    await redis.xreadgroup(group, "reader", {STREAM: ">"})
                    await redis.xack(STREAM, group, "1-0")
                await asyncio.to_thread(_until, lambda: not kept())


def _until(holds: Callable[[], bool]) -> None:
    deadline = monotonic() + 30
    while not holds():
        assert monotonic() < deadline
        sleep(0.05)
