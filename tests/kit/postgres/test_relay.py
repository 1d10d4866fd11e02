"""Nothing that was written is lost between PostgreSQL and Redis, whichever of them, or the relay, fails."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from uuid_utils.compat import uuid7

from services.kit.postgres import relay as relay_module
from services.kit.postgres.relay import Relay
from services.standalone.servers import Servers
from tests.support.proxy import Proxy
from tests.support.store import GROUPS, STREAM, Store
from tests.support.waiting import eventually, running

OFTEN = 0.05


def relay_of(store: Store, **changes: Any) -> Relay:
    settings: dict[str, Any] = {
        "database_url": store.database_url,
        "redis_url": store.redis_url,
        "stream": STREAM,
        "groups": GROUPS,
        "registry": CollectorRegistry(),
    }
    return Relay(**settings | changes)


def published(store: Store) -> Awaitable[None]:
    async def holds() -> bool:
        return await store.unpublished() == 0

    return eventually(holds)


def stream_holds(store: Store, *numbers: int, within_seconds: float = 10.0) -> Awaitable[None]:
    async def holds() -> bool:
        return [number for number, _ in await store.entries()] == list(numbers)

    return eventually(holds, within_seconds)


def acknowledged_through(store: Store, position: int) -> Awaitable[None]:
    async def holds() -> bool:
        return await store.acked_through() == position

    return eventually(holds)


def groups_exist(store: Store) -> Awaitable[None]:
    async def holds() -> bool:
        present = await store.redis.exists(STREAM) and await store.redis.xinfo_groups(STREAM)
        return {group["name"].decode() for group in present or []} == set(GROUPS)

    return eventually(holds)


async def numbers_in_postgres(store: Store) -> dict[int, UUID]:
    rows = await store.connection.fetch("SELECT stream_seq, id FROM outbox WHERE stream_seq IS NOT NULL")
    return {row["stream_seq"]: row["id"] for row in rows}


async def test_events_are_carried_in_the_order_they_were_written(store: Store) -> None:
    written = await store.write(1_050)
    async with running(relay_of(store).run):
        await published(store)
    assert await store.event_ids() == written
    assert [number for number, _ in await store.entries()] == list(range(1, 1_051))
    assert await numbers_in_postgres(store) == dict(enumerate(written, 1))


async def test_an_entry_says_all_that_a_reader_needs(store: Store) -> None:
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


async def test_a_woken_relay_sends_without_waiting_for_its_next_look(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_IDLE_SECONDS", 3.0)
    relay = relay_of(store)
    async with running(relay.run):
        await store.write()
        relay.wake()
        await published(store)
        async with asyncio.timeout(12):  # a look for each of them would take 30 s
            for expected in range(2, 12):
                await store.write()
                relay.wake()
                await stream_holds(store, *range(1, expected + 1))


async def test_an_event_of_another_process_is_found_without_a_wake(store: Store) -> None:
    async with running(relay_of(store).run):
        await asyncio.sleep(0.3)
        await store.write()
        await stream_holds(store, 1)


async def test_every_group_exists_before_any_of_its_members_has_started(store: Store) -> None:
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


async def test_a_relay_keeps_still_while_another_one_works(store: Store) -> None:
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


async def test_an_append_whose_answer_is_lost_loses_nothing(store: Store, redis_proxy: Proxy) -> None:
    relay = relay_of(store, redis_url=redis_proxy.url)
    async with running(relay.run):
        await store.write()
        await published(store)
        send = relay._append

        async def send_and_hear_nothing(**arguments: Any) -> Any:
            relay._append = send
            redis_proxy.hold_replies()
            return await send(**arguments)

        relay._append = send_and_hear_nothing  # type: ignore[assignment]
        (second,) = await store.write()
        await stream_holds(store, 1, 2)
        redis_proxy.cut()
        redis_proxy.heal()
        await published(store)
    assert (await store.event_ids())[1:] == [second, second]
    assert list(await numbers_in_postgres(store)) == [1, 3]


@pytest.mark.parametrize("happening", ["moved", "emptied"])
async def test_nothing_is_appended_to_a_stream_that_is_not_as_it_was_read(store: Store, happening: str) -> None:
    relay = relay_of(store)
    await store.write(2)
    look, append = relay._open, relay._append
    answers = []

    async def look_and_be_overtaken(**arguments: Any) -> Any:
        seen = await look(**arguments)
        relay._open = look
        await (store.redis.xadd(STREAM, {"other": 1}, id="5-0") if happening == "moved" else store.redis.flushdb())
        return seen

    async def append_and_remember(**arguments: Any) -> Any:
        answers.append(await append(**arguments))
        return answers[-1]

    relay._open = look_and_be_overtaken  # type: ignore[assignment]
    relay._append = append_and_remember  # type: ignore[assignment]
    async with running(relay.run):
        await published(store)
    assert answers == [0, 1]
    await stream_holds(store, *((5, 6, 7) if happening == "moved" else (1, 2)))
    await groups_exist(store)


async def test_an_emptied_redis_gets_again_what_was_not_acknowledged(store: Store) -> None:
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
        # The first group had acknowledged 4 before, but in this Redis it has read nothing yet.
        assert await store.acked_through() == 2
        await store.acknowledge("first", 5)
        await acknowledged_through(store, 7)


async def test_a_redis_that_went_back_in_time_gets_what_it_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_BATCH", 20)
    async with running(relay_of(store).run):
        written = await store.write(40)
        await published(store)
        snapshot = await store.redis.dump(STREAM)
        lost = await store.write(210)
        await published(store)
        await store.redis.restore(STREAM, 0, snapshot, replace=True)
        # Batch upon batch, and not one per look.
        await stream_holds(store, *range(1, 251))
    assert await store.event_ids() == written + lost


async def test_a_redis_that_is_newer_than_postgres_is_continued(store: Store) -> None:
    await store.redis.xadd(STREAM, {"from": "before the backup was restored"}, id="900-0")
    await store.write(2)
    async with running(relay_of(store).run):
        await published(store)
        await stream_holds(store, 900, 901, 902)
    assert list(await numbers_in_postgres(store)) == [901, 902]


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


async def test_a_group_that_is_missing_holds_everything_back_and_is_made_again(store: Store) -> None:
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


async def test_what_was_acknowledged_stays_so_when_redis_is_emptied(store: Store) -> None:
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


async def test_a_new_event_is_never_numbered_among_those_already_acknowledged(store: Store) -> None:
    """Else it would be taken for acknowledged: trimmed, and not sent again."""
    relay = relay_of(store, upkeep_seconds=OFTEN, retention=timedelta(0))
    async with running(relay.run):
        await store.write(4)
        await published(store)
        for group in GROUPS:
            await store.acknowledge(group, 4)

        async def forgotten() -> bool:
            return not await numbers_in_postgres(store)

        await eventually(forgotten)
    await store.redis.flushdb()
    async with running(relay_of(store, upkeep_seconds=OFTEN).run):
        (written,) = await store.write()
        await stream_holds(store, 5)
        await asyncio.sleep(OFTEN * 4)
        assert await store.event_ids() == [written]
        await store.redis.flushdb()
        await stream_holds(store, 5)


async def test_old_rows_go_only_when_they_are_acknowledged(store: Store) -> None:
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


async def test_writers_do_not_notice_that_redis_is_away_and_the_relay_catches_up(
    store: Store, redis_proxy: Proxy
) -> None:
    registry = CollectorRegistry()
    relay = relay_of(store, redis_url=redis_proxy.url, registry=registry, upkeep_seconds=OFTEN)
    async with running(relay.run):
        await store.write()
        await published(store)
        redis_proxy.cut()
        started = monotonic()
        for _ in range(20):
            await store.write()
            relay.wake()
        assert monotonic() - started < 4  # one attempt at Redis takes 2
        await eventually(lambda: registry.get_sample_value("outbox_unpublished_events") == 20)
        assert (registry.get_sample_value("outbox_oldest_age_seconds") or 0) > 0
        redis_proxy.heal()
        await stream_holds(store, *range(1, 22))
        await eventually(lambda: registry.get_sample_value("outbox_unpublished_events") == 0)
    assert registry.get_sample_value("outbox_published_total") == 21


async def test_a_driver_that_lost_track_is_an_outage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen after a kill -9 of PostgreSQL, in an error that is neither the server's nor the interface's."""
    send, lost_track = Relay._send, [asyncpg.InternalClientError("another operation (2) is in progress")]

    async def lose_track_once(self: Relay) -> int | None:
        if lost_track:
            raise lost_track.pop()
        return await send(self)

    monkeypatch.setattr(Relay, "_send", lose_track_once)
    async with running(relay_of(store).run):
        await store.write()
        await published(store)


async def test_a_relay_that_lost_its_database_connection_gets_another(store: Store) -> None:
    async with running(relay_of(store).run):
        await store.write()
        await published(store)
        await store.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await store.write()
        await stream_holds(store, 1, 2)


async def test_a_relay_whose_database_connection_fell_silent_makes_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_COMMAND_SECONDS", 0.3)
    async with Proxy.to(store.database_url) as proxy, running(relay_of(store, database_url=proxy.url).run):
        await store.write()
        await published(store)
        proxy.silence()
        await store.write()
        await stream_holds(store, 1, 2)


async def test_events_sent_again_are_counted(store: Store) -> None:
    registry = CollectorRegistry()
    async with running(relay_of(store, registry=registry).run):
        await store.write(3)
        await published(store)
        await store.redis.flushdb()
        await stream_holds(store, 1, 2, 3)
        await eventually(lambda: registry.get_sample_value("outbox_resent_total") == 3)
    assert registry.get_sample_value("outbox_published_total") == 3


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


async def test_the_relay_keeps_its_client_from_repeating_a_command(store: Store) -> None:
    redis: Redis = relay_of(store)._redis
    settings = redis.connection_pool.connection_kwargs
    assert settings["socket_timeout"] == 2
    assert settings["retry"].get_retries() == 0
    await redis.aclose()


async def test_a_connection_that_was_asked_with_a_number_beyond_64_bits_is_not_used_again(store: Store) -> None:
    await store.redis.xadd(STREAM, {"a": "b"}, id=f"{2**64 - 2}-0")
    await store.write()
    relay = relay_of(store)
    async with running(relay.run):
        await eventually(lambda: relay._connection is not None)
        asked = relay._connection
        await eventually(lambda: asked.is_closed())
        await store.redis.delete(STREAM)
        await published(store)
    assert len(await store.entries()) == 1


async def test_what_every_reader_has_acknowledged_leaves_redis_file_too(
    tmp_path: Path, outbox_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_FIRST_REWRITE_SECONDS", 0.0)
    monkeypatch.setattr(relay_module, "_REWRITE_SECONDS", 0.0)
    canary = f"Ada {uuid7()}"

    def kept() -> bool:
        files = (tmp_path / "valkey" / "appendonlydir").glob("*")
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
