"""Indexes that are missing or have changed, and a service whose indexes are missing."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
import structlog
from pymongo import IndexModel
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError
from uuid_utils.compat import uuid7

from services.contracts.events import UserState
from services.notification import indexes, repository
from services.notification.indexes import migrate
from tests.notification.services import migrated, service_of
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of, metrics_of
from tests.support.streams import Streams, appointment
from tests.support.waiting import eventually

NAME = "things_once"
FORMER = {"things": [IndexModel([("event", 1), ("user", 1)], name=NAME, unique=True)]}
_OUTAGES = 'events_handled_total{outcome="outage",stream="booking.appointments"'
CHANGED = {
    "things": [
        IndexModel([("user", 1), ("event", 1)], name=NAME, unique=True, partialFilterExpression={"user": {"$gt": 0}})
    ]
}


@pytest.fixture
def url(mongodb_url: str) -> str:
    return mongodb_url.replace("/notification_", f"/migration_{uuid7().hex[-6:]}_")


@pytest.fixture
def things(url: str) -> Iterator[Collection[dict[str, Any]]]:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        yield client.get_default_database()["things"]
        client.drop_database(client.get_default_database())


def test_an_index_has_no_time_limit_not_even_the_one_in_the_url(url: str, things: Collection[dict[str, Any]]) -> None:
    database = things.database
    database.command("profile", 2)
    assert migrate(f"{url}&timeoutMS=1&socketTimeoutMS=1", FORMER) == [NAME]
    (made,) = database["system.profile"].find({"command.createIndexes": "things"})
    assert "maxTimeMS" not in made["command"]


def test_a_changed_index_is_made_anew_under_its_name_and_duplicates_are_refused_throughout(
    url: str, things: Collection[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(url, FORMER)
    things.insert_one({"event": 1, "user": 1})
    drop, dropped = indexes._drop, list[str]()

    def drop_and_try(collection: Collection[dict[str, Any]], index: IndexModel) -> None:
        drop(collection, index)
        dropped.append(index.document["name"])
        with pytest.raises(DuplicateKeyError):
            things.insert_one({"event": 1, "user": 1})

    monkeypatch.setattr(indexes, "_drop", drop_and_try)
    assert migrate(url, CHANGED) == [NAME]
    assert NAME in dropped
    found = things.index_information()
    assert found.keys() == {"_id_", NAME}
    assert (found[NAME]["key"], found[NAME]["unique"]) == ([("user", 1), ("event", 1)], True)
    assert found[NAME]["partialFilterExpression"] == {"user": {"$gt": 0}}
    assert migrate(url, CHANGED) == []


async def test_two_runs_at_once_remake_an_index_once(
    url: str, things: Collection[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(migrate, url, FORMER)
    both_have_looked, find, drop, dropped = asyncio.Event(), indexes._find, indexes._drop, list[str]()
    first_looks: list[str] = []
    loop = asyncio.get_running_loop()

    def find_and_wait(collection: Collection[dict[str, Any]], name: str) -> Any:
        found = find(collection, name)
        if len(first_looks) < 2:
            first_looks.append(name)
            if len(first_looks) == 2:
                loop.call_soon_threadsafe(both_have_looked.set)
            asyncio.run_coroutine_threadsafe(both_have_looked.wait(), loop).result()
        return found

    def drop_and_tell(collection: Collection[dict[str, Any]], index: IndexModel) -> None:
        dropped.append(index.document["name"])
        drop(collection, index)

    monkeypatch.setattr(indexes, "_find", find_and_wait)
    monkeypatch.setattr(indexes, "_drop", drop_and_tell)
    await asyncio.gather(*(asyncio.to_thread(migrate, url, CHANGED) for _ in range(2)))
    assert dropped.count(NAME) == 1
    assert things.index_information().keys() == {"_id_", NAME}


@pytest.mark.parametrize("had_made_it", [False, True])
def test_a_run_finishes_what_a_killed_one_began(
    url: str, things: Collection[dict[str, Any]], had_made_it: bool
) -> None:
    (index,) = CHANGED["things"]
    things.create_indexes([indexes._guard(index), *([index] if had_made_it else [])])
    assert migrate(url, CHANGED) == ([] if had_made_it else [NAME])
    assert things.index_information().keys() == {"_id_", NAME}


def test_the_lease_of_a_killed_run_ends(
    url: str, things: Collection[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(url, FORMER)
    monkeypatch.setattr(indexes, "_LEASE_SECONDS", 1)
    leases = things.database["migrations"]
    until = [{"$set": {"owner": "killed", "until": {"$add": ["$$NOW", 1000]}}}]
    leases.update_one({"_id": "indexes"}, until, upsert=True)
    assert migrate(url, CHANGED) == [NAME]


async def test_a_service_without_its_indexes_is_not_ready_and_names_them(
    url: str, auth: AuthStub, redis_url: str, things: Collection[dict[str, Any]]
) -> None:
    await migrated(url)
    await asyncio.to_thread(things.database["notifications"].drop_index, "notification_once")
    with structlog.testing.capture_logs() as lines:
        async with client_of(service_of(auth, url, redis_url)) as client:
            health = await client.get("/api/health")
    assert (health.status_code, health.json()["checks"]["mongodb"]["status"]) == (503, "unavailable")
    assert [line["indexes"] for line in lines if line["event"].startswith("indexes are missing")] == [
        ["notification_once"]
    ]


async def test_a_service_is_ready_once_its_indexes_exist(
    url: str, auth: AuthStub, redis_url: str, things: Collection[dict[str, Any]]
) -> None:
    async with client_of(service_of(auth, url, redis_url)) as client:
        assert (await client.get("/api/health")).status_code == 503
        await migrated(url)

        async def ready() -> bool:
            return (await client.get("/api/health")).status_code == 200

        await eventually(ready)


async def test_an_empty_database_takes_no_event_until_it_is_migrated_and_then_each_is_stored_once(
    url: str,
    auth: AuthStub,
    redis_url: str,
    streams: Streams,
    pair: tuple[UserState, UserState],
    things: Collection[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repository, "_LOOK_SECONDS", 0)
    service = service_of(auth, await migrated(url), redis_url)
    async with client_of(service) as client:

        async def mongodb_is(status: str) -> bool:
            return bool((await client.get("/api/health")).json()["checks"]["mongodb"]["status"] == status)

        await eventually(lambda: mongodb_is("ok"))
        await asyncio.to_thread(things.database.client.drop_database, things.database)
        await eventually(lambda: mongodb_is("unavailable"))
        await streams.tell(appointment(*pair))

        async def refused() -> bool:
            return any(name.startswith(_OUTAGES) and value for name, value in (await metrics_of(service)).items())

        await eventually(refused)
        notifications = things.database["notifications"]
        assert await asyncio.to_thread(notifications.count_documents, {}) == 0
        await migrated(url)
        await streams.settled()
        found = await asyncio.to_thread(lambda: list(notifications.find()))
        assert len(found) == 2
        assert await asyncio.to_thread(things.database["dead_letters"].count_documents, {}) == 0
