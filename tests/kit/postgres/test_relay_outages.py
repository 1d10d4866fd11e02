"""No event is lost when the relay, PostgreSQL or Redis fails."""

from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from services.kit.postgres import relay as relay_module
from services.kit.postgres.relay import Relay
from tests.kit.postgres.relaying import OFTEN, groups_exist, numbers_in_postgres, published, relay_of, stream_holds
from tests.support.proxy import Proxy
from tests.support.store import STREAM, Store
from tests.support.waiting import eventually, running


async def test_a_crash_between_the_append_and_the_mark_repeats_events_and_loses_none(store: Store) -> None:
    written = await store.write(3)
    await store.connection.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'crash'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON outbox DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    try:
        async with running(relay_of(store).run):
            await stream_holds(store, 1, 2, 3)
    finally:
        await store.connection.execute("DROP FUNCTION refuse CASCADE")
    assert await store.unpublished() == 3
    ahead = (await store.entries())[-1][0]
    async with running(relay_of(store).run):
        await published(store)
    assert await numbers_in_postgres(store) == dict(enumerate(written, ahead + 1))
    assert (await store.event_ids())[-3:] == written


async def test_an_append_whose_reply_is_lost_repeats_the_event_and_loses_none(store: Store, redis_proxy: Proxy) -> None:
    relay = relay_of(store, redis_url=redis_proxy.url)
    async with running(relay.run):
        await store.write()
        await published(store)
        append = relay._append

        async def append_and_lose_the_reply(**arguments: Any) -> Any:
            relay._append = append
            redis_proxy.hold_replies()
            return await append(**arguments)

        relay._append = append_and_lose_the_reply  # type: ignore[assignment]
        (second,) = await store.write()
        await stream_holds(store, 1, 2)
        redis_proxy.cut()
        redis_proxy.heal()
        await published(store)
    assert (await store.event_ids())[1:] == [second, second]
    assert list(await numbers_in_postgres(store)) == [1, 3]


@pytest.mark.parametrize("change", ["another entry", "emptied"])
async def test_nothing_is_appended_to_a_stream_that_changed_since_it_was_read(store: Store, change: str) -> None:
    relay = relay_of(store)
    await store.write(2)
    read, append = relay._open, relay._append
    results = []

    async def read_and_change(**arguments: Any) -> Any:
        last_id = await read(**arguments)
        relay._open = read
        await (store.redis.flushdb() if change == "emptied" else store.redis.xadd(STREAM, {"other": 1}, id="5-0"))
        return last_id

    async def append_and_note(**arguments: Any) -> Any:
        results.append(await append(**arguments))
        return results[-1]

    relay._open = read_and_change  # type: ignore[assignment]
    relay._append = append_and_note  # type: ignore[assignment]
    async with running(relay.run):
        await published(store)
    assert results == [0, 1]
    await stream_holds(store, *((1, 2) if change == "emptied" else (5, 6, 7)))
    await groups_exist(store)


async def test_writers_do_not_wait_for_redis_and_the_relay_catches_up(store: Store, redis_proxy: Proxy) -> None:
    registry = CollectorRegistry()
    relay = relay_of(store, redis_url=redis_proxy.url, registry=registry, upkeep_seconds=OFTEN)
    async with running(relay.run):
        await store.write()
        await published(store)
        redis_proxy.cut()
        for _ in range(20):
            await store.write()
            relay.wake()
        assert registry.get_sample_value("outbox_published_total") == 1
        await eventually(lambda: registry.get_sample_value("outbox_unpublished_events") == 20)
        assert (registry.get_sample_value("outbox_oldest_age_seconds") or 0) > 0
        redis_proxy.heal()
        await stream_holds(store, *range(1, 22))
        await eventually(lambda: registry.get_sample_value("outbox_unpublished_events") == 0)
    assert registry.get_sample_value("outbox_published_total") == 21


async def test_an_internal_error_of_the_driver_is_an_outage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill -9 of PostgreSQL, asyncpg raised this error, which is neither a server's nor an interface error."""
    send, errors = Relay._send, [asyncpg.InternalClientError("another operation (2) is in progress")]

    async def fail_once(self: Relay) -> int | None:
        if errors:
            raise errors.pop()
        return await send(self)

    monkeypatch.setattr(Relay, "_send", fail_once)
    async with running(relay_of(store).run):
        await store.write()
        await published(store)


async def test_a_relay_whose_database_connection_is_lost_opens_another(store: Store) -> None:
    async with running(relay_of(store).run):
        await store.write()
        await published(store)
        await store.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await store.write()
        await stream_holds(store, 1, 2)


async def test_a_relay_whose_database_connection_is_silent_opens_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_COMMAND_SECONDS", 0.3)
    async with Proxy.to(store.database_url) as proxy, running(relay_of(store, database_url=proxy.url).run):
        await store.write()
        await published(store)
        proxy.silence()
        await store.write()
        await stream_holds(store, 1, 2)


async def test_the_relays_redis_client_repeats_no_command(store: Store) -> None:
    redis: Redis = relay_of(store)._redis
    settings = redis.connection_pool.connection_kwargs
    assert settings["socket_timeout"] == 2
    assert settings["retry"].get_retries() == 0
    await redis.aclose()


async def test_a_connection_that_was_given_a_number_beyond_64_bits_is_not_used_again(store: Store) -> None:
    await store.redis.xadd(STREAM, {"a": "b"}, id=f"{2**64 - 2}-0")
    await store.write()
    relay = relay_of(store)
    async with running(relay.run):
        await eventually(lambda: relay._connection is not None)
        used = relay._connection
        await eventually(lambda: used.is_closed())
        await store.redis.delete(STREAM)
        await published(store)
    assert len(await store.entries()) == 1
