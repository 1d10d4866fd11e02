"""The chain over notification's audit trail: nothing keeps an entry from being changed, but it shows."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from uuid_utils.compat import uuid7

from services.kit.trail.entry import entry
from services.notification.audit.repository import AuditTrail, Chain
from services.notification.repository import Store


@pytest.fixture
async def chain(store: Store) -> Chain:
    """With three entries, sealed one after the other, and no others."""
    for name in ("audit_log", "audit_seals"):
        await store[name].delete_many({})
    chain, trail = Chain(store, CollectorRegistry()), AuditTrail(store)
    for _ in range(3):
        await trail.add(entry("record.read", target_type="notifications", target_id=uuid7(), actor_role="ADMIN"))
        await chain.seal()
    return chain


async def test_a_chain_that_nobody_touched_is_whole(chain: Chain) -> None:
    verdict = await chain.verify(None)
    assert (verdict.position, verdict.unsealed, verdict.broken) == (3, 0, None)
    assert (await chain.verify(verdict.head)).broken is None


async def test_two_replicas_seal_each_entry_once(chain: Chain, store: Store) -> None:
    trail, other = AuditTrail(store), Chain(store)
    for _ in range(20):
        await trail.add(entry("record.read", target_type="notifications", target_id=uuid7()))
    await asyncio.gather(*(one.seal() for one in (chain, other) * 4))
    await chain.seal()
    verdict = await chain.verify(None)
    assert (verdict.position, verdict.broken) == (23, None)


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
    broken = (await chain.verify(None)).broken
    assert broken is not None
    assert re.search(said, broken)


async def test_a_lost_end_is_found_by_a_head_that_was_printed(chain: Chain, store: Store) -> None:
    head = (await chain.verify(None)).head
    last = await store["audit_seals"].find_one_and_delete({"_id": 3})
    await store["audit_log"].delete_one({"_id": last and last["entry"]})
    assert (await chain.verify(None)).broken is None
    assert (await chain.verify(head)).broken == "link 3: the chain ends before the known head at 3"
