"""The chain over notification's audit trail: nothing keeps an entry from being changed, but it shows."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from uuid_utils.compat import uuid7

from services.kit.trail.chain import BEGINNING, COLUMNS, Head
from services.kit.trail.entry import entry
from services.kit.trail.expiry import expire
from services.kit.trail.verify import verify
from services.notification.audit.repository import AuditTrail, Chain, StoredChain
from services.notification.repository import Store


@pytest.fixture
async def chain(store: Store) -> Chain:
    """With three entries, sealed one after the other, and no others."""
    for name in ("audit_log", "audit_seals", "audit_expiries"):
        await store[name].delete_many({})
    chain, trail = Chain(store, CollectorRegistry()), AuditTrail(store)
    for _ in range(3):
        await trail.add(entry("record.read", target_type="notifications", target_id=uuid7(), actor_role="ADMIN"))
        await chain.seal()
    return chain


async def test_a_chain_that_nobody_touched_is_whole(chain: Chain, store: Store) -> None:
    verdict = await verify(StoredChain(store))
    assert (verdict.head.position, verdict.unsealed, verdict.broken) == (3, 0, None)
    assert (await verify(StoredChain(store), str(verdict.head))).broken is None


async def test_two_replicas_seal_each_entry_once(chain: Chain, store: Store) -> None:
    trail, other = AuditTrail(store), Chain(store)
    for _ in range(20):
        await trail.add(entry("record.read", target_type="notifications", target_id=uuid7()))
    await asyncio.gather(*(one.seal() for one in (chain, other) * 4))
    await chain.seal()
    verdict = await verify(StoredChain(store))
    assert (verdict.head.position, verdict.broken) == (23, None)


async def change(store: Store) -> None:
    one = await store["audit_seals"].find_one({"_id": 2})
    await store["audit_log"].update_one({"_id": one and one["entry"]}, {"$set": {"actor_role": "PATIENT"}})


async def remove(store: Store) -> None:
    one = await store["audit_seals"].find_one({"_id": 2})
    await store["audit_log"].delete_one({"_id": one and one["entry"]})


async def remove_seal(store: Store) -> None:
    await store["audit_seals"].delete_one({"_id": 2})


async def slip_in(store: Store) -> None:
    latest = await store["audit_log"].find_one(sort=[("_id", -1)])
    assert latest is not None
    await store["audit_log"].insert_one({**latest, "_id": uuid7(), "at": latest["at"] - timedelta(hours=1)})


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (change, "link 2: entry .* was changed"),
        (remove, "link 2: entry .* is missing"),
        (remove_seal, "link 2: its seal is missing"),
        (slip_in, "was added to the past and has no seal"),
    ],
)
async def test_tampering_is_found(
    chain: Chain, store: Store, tamper: Callable[[Store], Awaitable[Any]], said: str
) -> None:
    await tamper(store)
    broken = (await verify(StoredChain(store))).broken
    assert broken is not None
    assert re.search(said, broken)


async def test_a_lost_end_is_found_by_a_head_that_was_printed(chain: Chain, store: Store) -> None:
    head = (await verify(StoredChain(store))).head
    last = await store["audit_seals"].find_one_and_delete({"_id": 3})
    await store["audit_log"].delete_one({"_id": last and last["entry"]})
    assert (await verify(StoredChain(store))).broken is None
    assert (await verify(StoredChain(store), str(head))).broken == "link 3: the chain ends before the known head at 3"


async def test_expired_entries_are_exported_and_removed(chain: Chain, store: Store, tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=800)
    for name in ("audit_log", "audit_seals", "audit_expiries"):
        await store[name].delete_many({})
    for at in (long_ago, long_ago, datetime.now(UTC) - timedelta(minutes=5)):
        one = entry("record.read", target_type="notifications", target_id=uuid7(), actor_role="ADMIN")
        await store["audit_log"].insert_one({"_id": uuid7(), **one, "at": at})
        await chain.seal()
    stored = StoredChain(store)
    verdict, path = await expire(stored, datetime.now(UTC) - timedelta(days=700), tmp_path, "audit-notification")
    assert (verdict.broken, path) == (None, tmp_path / "audit-notification-1-2.jsonl")
    assert path is not None
    start, *links, end = [json.loads(line) for line in path.read_text().splitlines()]
    assert [link["entry"][COLUMNS.index("actor_role")] for link in links] == ["ADMIN", "ADMIN"]
    assert (start, end) == ({"start": str(BEGINNING)}, {"head": f"2:{links[-1]['hash']}"})
    assert [seal["_id"] async for seal in store["audit_seals"].find()] == [3, 4]
    assert await store["audit_log"].count_documents({}) == 2
    assert (await verify(stored)).broken is None
    assert (await expire(stored, datetime.now(UTC) - timedelta(days=700), tmp_path, "again"))[1] is None
    await store["audit_log"].delete_one({"action": "audit.expired"})
    await store["audit_seals"].delete_one({"_id": 4})
    assert (await verify(stored)).broken == "link 3: no entry says that those before it have expired"


async def test_a_removal_that_was_interrupted_is_finished_by_the_next(
    chain: Chain, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, cutoff = StoredChain(store), datetime.now(UTC) + timedelta(minutes=1)

    async def delete_the_first_entry_and_die(through: Head) -> None:
        if through.position:
            await store["audit_expiries"].insert_one({"_id": through.position, "hash": through.hash})
            first = await store["audit_seals"].find_one({"_id": 1})
            await store["audit_log"].delete_one({"_id": first and first["entry"]})
            raise KeyboardInterrupt

    monkeypatch.setattr(stored, "remove", delete_the_first_entry_and_die)
    with pytest.raises(KeyboardInterrupt):
        await expire(stored, cutoff, tmp_path, "audit-notification")
    assert (await verify(stored)).broken is None
    monkeypatch.undo()
    assert (await expire(stored, cutoff, tmp_path, "audit-notification"))[0].broken is None
    assert await store["audit_seals"].count_documents({"_id": {"$lte": 2}}) == 0
    assert (await verify(stored)).broken is None
