"""The relay's searches begin where the last one ended, and miss no row that commits late."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from services.kit.postgres import horizon, outbox_rows
from services.kit.postgres.outbox_rows import OutboxRows
from tests.kit.postgres.relaying import acknowledged_through, numbers_in_postgres, published, relay_of
from tests.support.store import GROUPS, Store
from tests.support.waiting import eventually, running

_MANY = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, version, payload)
    SELECT gen_random_uuid(), 'thing', 'one', 'ThingChanged', n, '{}' FROM generate_series(1, 10000) AS n
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(horizon, "_STATEMENT_SECONDS", 0.0)


@pytest.fixture
async def snapshot(store: Store) -> AsyncIterator[None]:
    """Hold a snapshot as `pg_dump` does, because of which PostgreSQL keeps every old version of a row."""
    connection = await asyncpg.connect(store.database_url)
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    await connection.fetchval("SELECT count(*) FROM outbox")
    yield
    await transaction.rollback()
    await connection.close()


async def pages(store: Store, query: str, *values: Any) -> int:
    """Return the pages that a query reads, without its changes."""
    transaction = store.connection.transaction()
    await transaction.start()
    explained = await store.connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *values)
    await transaction.rollback()
    plan = msgspec.json.decode(explained)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def test_what_was_published_is_not_read_again_while_an_older_snapshot_is_held(
    store: Store, snapshot: None
) -> None:
    await store.connection.execute(_MANY)
    await store.connection.execute("ANALYZE outbox")
    highest = await store.connection.fetchval("SELECT max(seq) FROM outbox")
    relay = relay_of(store)
    async with running(relay.run):
        await published(store)
        await eventually(lambda: relay._rows._published_through == highest)
        await eventually(lambda: relay._rows._deleted_through == 0)
    for query, values in ((outbox_rows._WAITING, ()), (outbox_rows._BACKLOG, ()), (outbox_rows._NUMBER, (20_000, 500))):
        known = await pages(store, query, *values, highest)
        assert known <= 20, query
        assert await pages(store, query, *values, 0) > 5 * known, query


async def test_what_was_deleted_is_not_read_again_while_an_older_snapshot_is_held(store: Store, snapshot: None) -> None:
    await store.connection.execute(_MANY)
    await store.connection.execute("UPDATE outbox SET stream_seq = seq - (SELECT min(seq) FROM outbox) + 1")
    await store.connection.execute("UPDATE outbox SET created_at = now() - interval '8 days' WHERE stream_seq <= 9500")
    await store.connection.execute("ANALYZE outbox")
    rows, week = OutboxRows(store.connection), timedelta(days=7)
    assert [await rows.delete(10_000, week, 1_000) for _ in range(11)] == [1_000] * 9 + [500, 0]
    assert sorted(await numbers_in_postgres(store)) == list(range(9_501, 10_001))
    values = (10_000, week, 100)
    known = await pages(store, outbox_rows._DELETE, *values, 9_500)
    assert known <= 20
    assert await pages(store, outbox_rows._DELETE, *values, 0) > 5 * known


async def test_a_young_row_among_old_ones_is_deleted_once_it_is_old(store: Store) -> None:
    await store.write(4)
    await store.connection.execute("UPDATE outbox SET stream_seq = seq - (SELECT min(seq) FROM outbox) + 1")
    await store.connection.execute("UPDATE outbox SET created_at = now() - interval '8 days' WHERE stream_seq <> 2")
    rows = OutboxRows(store.connection)
    await rows.delete(4, timedelta(days=7), 1_000)
    assert list(await numbers_in_postgres(store)) == [2]
    await store.connection.execute("UPDATE outbox SET created_at = now() - interval '8 days'")
    await rows.delete(4, timedelta(days=7), 1_000)
    assert await numbers_in_postgres(store) == {}


async def test_more_than_a_batch_of_old_rows_is_deleted(store: Store) -> None:
    await store.connection.execute(_MANY)
    await store.connection.execute("UPDATE outbox SET created_at = now() - interval '8 days'")
    async with running(relay_of(store, upkeep_seconds=0.05).run):
        await published(store)
        for group in GROUPS:
            await store.acknowledge(group, 10_000)
        await acknowledged_through(store, 10_000)

        async def deleted() -> bool:
            return not await numbers_in_postgres(store)

        await eventually(deleted)


async def test_an_event_whose_transaction_commits_after_many_later_ones_is_sent(store: Store) -> None:
    slow = await asyncpg.connect(store.database_url)
    transaction = slow.transaction()
    await transaction.start()
    (late,) = await Store(store.database_url, store.redis_url, slow, store.redis).write()
    relay = relay_of(store)
    sent: list[UUID] = []
    async with running(relay.run):
        for _ in range(10):
            sent += await store.write()
            relay.wake()
            await published(store)
        await transaction.commit()
        highest = await store.connection.fetchval("SELECT max(seq) FROM outbox")
        await eventually(lambda: relay._rows._published_through == highest)
        await published(store)
    await slow.close()
    assert await store.event_ids() == [*sent, late]
