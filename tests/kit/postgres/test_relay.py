"""The relay appends every event of the outbox to its stream, once and in order."""

import asyncio
from uuid import UUID

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from services.kit.postgres import relay as relay_module
from tests.kit.postgres.relaying import (
    numbers_in_postgres,
    published,
    relay_of,
    stream_holds,
)
from tests.support.store import GROUPS, STREAM, Store
from tests.support.waiting import running


async def test_events_reach_the_stream_in_the_order_in_which_they_were_written(store: Store) -> None:
    written = await store.write(1_050)
    async with running(relay_of(store).run):
        await published(store)
    assert await store.event_ids() == written
    assert [number for number, _ in await store.entries()] == list(range(1, 1_051))
    assert await numbers_in_postgres(store) == dict(enumerate(written, 1))


async def test_an_entry_has_every_field_that_a_reader_needs(store: Store) -> None:
    (event_id,) = await store.write(first_version=7)
    await store.connection.execute(
        "UPDATE outbox SET traceparent = 'some trace', request_id = 'some request', created_at = '2026-12-01 09:30+00'"
    )
    async with running(relay_of(store).run):
        await published(store)
    ((_, fields),) = await store.entries()
    thing = fields["aggregateid"]
    assert fields == {
        "id": str(event_id),
        "type": "ThingChanged",
        "aggregateid": thing,
        "version": "7",
        "payload": f'{{"type": "ThingChanged", "thing": "{thing}", "version": 7}}',
        "traceparent": "some trace",
        "request_id": "some request",
        "created_at": "2026-12-01T09:30:00Z",
    }


async def test_a_woken_relay_sends_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_IDLE_SECONDS", 600.0)
    relay = relay_of(store)
    async with running(relay.run):
        await store.write()
        relay.wake()
        await published(store)
        for expected in range(2, 12):
            await store.write()
            relay.wake()
            await stream_holds(store, *range(1, expected + 1))
        monkeypatch.setattr(relay_module, "_IDLE_SECONDS", 0.0)  # a relay ends its pause before it stops
        relay.wake()


async def test_an_event_that_another_process_wrote_is_sent_without_a_wake(store: Store) -> None:
    async with running(relay_of(store).run):
        await asyncio.sleep(0.3)
        await store.write()
        await stream_holds(store, 1)


async def test_every_group_exists_before_its_first_member_starts(store: Store) -> None:
    async with running(relay_of(store).run):
        written = await store.write(3)
        await published(store)
    for group in GROUPS:
        ((_, entries),) = await store.redis.xreadgroup(group, "late", {STREAM: ">"})
        assert [UUID(fields[b"id"].decode()) for _, fields in entries] == written


async def test_two_relays_and_many_writers_send_every_event_once_and_each_aggregate_in_order(store: Store) -> None:
    relays = [relay_of(store), relay_of(store)]

    async def write(thing: UUID) -> None:
        connection = await asyncpg.connect(store.database_url)
        other = Store(store.database_url, store.redis_url, connection, store.redis)
        for version in range(1, 51):
            await other.write(thing=thing, first_version=version)
            relays[version % 2].wake()
        await connection.close()

    async with running(*(relay.run for relay in relays)):
        await asyncio.gather(*(write(uuid7()) for _ in range(12)))
        await published(store)
    entries = await store.entries()
    assert [number for number, _ in entries] == list(range(1, 601))
    assert len({fields["id"] for _, fields in entries}) == 600
    versions: dict[str, list[int]] = {}
    for _, fields in entries:
        versions.setdefault(fields["aggregateid"], []).append(int(fields["version"]))
    assert all(of_one == list(range(1, 51)) for of_one in versions.values())


async def test_a_relay_sends_nothing_while_another_one_works(store: Store) -> None:
    other = await asyncpg.connect(store.database_url)
    try:
        await other.execute("SELECT pg_advisory_lock(hashtext('outbox relay'), hashtext($1))", STREAM)
        await store.write()
        async with running(relay_of(store).run):
            await asyncio.sleep(0.5)
            assert await store.entries() == []
            await other.execute("SELECT pg_advisory_unlock_all()")
            await stream_holds(store, 1)
    finally:
        await other.close()


async def test_a_relay_that_was_stopped_can_be_started_again(store: Store) -> None:
    relay = relay_of(store)
    for expected in (1, 2):
        async with running(relay.run):
            await store.write()
            await stream_holds(store, *range(1, expected + 1))
    idle = await store.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert idle == 0
