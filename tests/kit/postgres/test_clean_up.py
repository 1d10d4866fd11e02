"""Rows whose time is over are deleted until none is left, in transactions that a slow server ends in time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import asyncpg
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from services.kit.postgres import clean_up as clean_up_module
from services.kit.postgres.clean_up import CleanUp, Expiring
from services.kit.postgres.database import Database
from tests.kit.postgres.databases import CreateDatabase, opened

_METADATA = sa.MetaData()
ROOMS = sa.Table("rooms", _METADATA, sa.Column("id", sa.Integer, primary_key=True), sa.Column("until", sa.DateTime))
KEYS = sa.Table("keys", _METADATA, sa.Column("room_id", sa.Integer, sa.ForeignKey("rooms.id")))
ALONE = Expiring(ROOMS, ROOMS.c.until, kept=timedelta(hours=1))
WITH_PARTS = Expiring(ROOMS, ROOMS.c.until, parts=KEYS)
_DEFINITION = """
    CREATE TABLE rooms (id integer PRIMARY KEY, until timestamptz NOT NULL);
    CREATE INDEX rooms_until ON rooms (until);
    CREATE TABLE keys (room_id integer NOT NULL REFERENCES rooms ON DELETE CASCADE);
    CREATE INDEX keys_by_room ON keys (room_id);
    CREATE TABLE statements (deleted integer);
    CREATE FUNCTION count_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO statements SELECT count(*) FROM gone; RETURN NULL; END $$;
    CREATE TRIGGER count_rooms AFTER DELETE ON rooms REFERENCING OLD TABLE AS gone
        FOR EACH STATEMENT EXECUTE FUNCTION count_deleted();
    CREATE TRIGGER count_keys AFTER DELETE ON keys REFERENCING OLD TABLE AS gone
        FOR EACH STATEMENT EXECUTE FUNCTION count_deleted();
"""
_ROOMS = "INSERT INTO rooms SELECT n, now() - make_interval(mins => 61, secs => n) FROM generate_series(1, $1) AS n"


@pytest.fixture(scope="session")
async def rooms_url(create_database: CreateDatabase) -> str:
    return await create_database("rooms", _DEFINITION)


@pytest.fixture
async def rooms(rooms_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(rooms_url)
    await connection.execute("TRUNCATE rooms, keys, statements")
    yield connection
    await connection.close()


@pytest.fixture
async def rooms_database(rooms_url: str, rooms: Any) -> AsyncIterator[Database]:
    async with opened(rooms_url, connections=2) as database:
        yield database


async def clean_up(database: Database, expiring: Expiring) -> CollectorRegistry:
    registry = CollectorRegistry()
    await CleanUp(database, registry, expiring).work(asyncio.Event())
    return registry


def overdue(registry: CollectorRegistry) -> float | None:
    return registry.get_sample_value("clean_up_overdue_seconds", {"table": "rooms"})


async def test_a_table_of_any_size_is_emptied_in_small_transactions(rooms: Any, rooms_database: Database) -> None:
    await rooms.execute(_ROOMS, 200_000)
    registry = await clean_up(rooms_database, ALONE)
    assert await rooms.fetchval("SELECT count(*) FROM rooms") == 0
    assert await rooms.fetchval("SELECT max(deleted) FROM statements") == 1_000
    assert registry.get_sample_value("clean_up_deleted_total", {"table": "rooms"}) == 200_000
    assert overdue(registry) == 0


async def test_rows_whose_time_is_not_over_stay(rooms: Any, rooms_database: Database) -> None:
    await rooms.execute("""
        INSERT INTO rooms VALUES
            (1, now() - interval '61 minutes'), (2, now() - interval '59 minutes'), (3, now() + interval '1 hour')
    """)
    await clean_up(rooms_database, ALONE)
    assert [row["id"] for row in await rooms.fetch("SELECT id FROM rooms ORDER BY id")] == [2, 3]


async def test_the_rows_of_one_row_are_deleted_in_batches_too(rooms: Any, rooms_database: Database) -> None:
    await rooms.execute(_ROOMS, 2)
    await rooms.execute("INSERT INTO rooms VALUES (9, now() + interval '1 hour')")
    await rooms.execute("INSERT INTO keys SELECT room FROM generate_series(1, 10000), unnest(ARRAY[1, 2, 9]) AS room")
    await clean_up(rooms_database, WITH_PARTS)
    assert await rooms.fetchval("SELECT count(*) FROM rooms") == 1
    assert await rooms.fetchval("SELECT count(*) FROM keys") == 10_000
    assert await rooms.fetchval("SELECT max(deleted) FROM statements") == 1_000


async def test_a_batch_that_takes_longer_than_a_statement_may_is_made_smaller(rooms: Any, rooms_url: str) -> None:
    await rooms.execute(_ROOMS, 40)
    await rooms.execute("""
        CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_sleep(0.05); RETURN OLD; END $$;
        CREATE TRIGGER slow BEFORE DELETE ON rooms FOR EACH ROW EXECUTE FUNCTION be_slow();
    """)
    limited = f"{rooms_url}?{urlencode({'options': '-c statement_timeout=1s'})}"
    try:
        async with opened(limited, connections=2) as database:
            registry = await clean_up(database, ALONE)
    finally:
        await rooms.execute("DROP FUNCTION be_slow CASCADE")
    assert await rooms.fetchval("SELECT count(*) FROM rooms") == 0
    assert await rooms.fetchval("SELECT max(deleted) FROM statements") <= 10
    assert overdue(registry) == 0


async def test_what_is_overdue_is_measured_also_when_nothing_can_be_deleted(rooms: Any, rooms_url: str) -> None:
    await rooms.execute("INSERT INTO rooms VALUES (1, now() - interval '3 hours')")
    blocker = rooms.transaction()
    await blocker.start()
    await rooms.execute("SELECT FROM rooms FOR UPDATE")
    limited = f"{rooms_url}?{urlencode({'options': '-c lock_timeout=50ms'})}"
    async with opened(limited, connections=2) as database:
        registry = await clean_up(database, ALONE)
    await blocker.rollback()
    assert 7_200 <= (overdue(registry) or 0) < 10_800


async def test_one_replica_at_a_time_cleans_a_table(rooms: Any, rooms_database: Database) -> None:
    await rooms.execute(_ROOMS, 3)
    await rooms.execute("SELECT pg_advisory_lock(hashtext('clean-up'), hashtext('rooms'))")
    await clean_up(rooms_database, ALONE)
    assert await rooms.fetchval("SELECT count(*) FROM rooms") == 3


async def test_what_was_deleted_is_not_read_again_while_an_older_snapshot_is_held(
    rooms: Any, rooms_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean_up_module, "_BATCH", 100)
    await rooms.execute(_ROOMS, 10_000)
    await rooms.execute("ANALYZE rooms")
    old = await asyncpg.connect(rooms_url)
    snapshot = old.transaction(isolation="repeatable_read")
    await snapshot.start()
    await old.fetchval("SELECT count(*) FROM rooms")
    reads = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'rooms_until'"
    before = await rooms.fetchval(reads)
    async with opened(rooms_url, connections=1) as database:
        await clean_up(database, ALONE)
        async with database.connection() as connection:
            await connection.execute("SELECT pg_stat_force_next_flush()")
    await snapshot.rollback()
    await old.close()
    await rooms.execute("SELECT pg_stat_clear_snapshot()")
    assert await rooms.fetchval(reads) - before < 5 * 10_000
