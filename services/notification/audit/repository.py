from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import BulkWriteError
from uuid_utils.compat import uuid7

from services.kit.trail.chain import BEGINNING, Head, next_hash
from services.kit.trail.entry import AuditEntry, AuditFilter
from services.kit.trail.verify import Link, Unsealed
from services.notification.repository import Collection, Document, Store, bounded

INDEXES = [
    IndexModel([("actor_id", ASCENDING), ("_id", DESCENDING)], name="audit_actor"),
    IndexModel([("target_id", ASCENDING), ("_id", DESCENDING)], name="audit_target"),
    IndexModel([("action", ASCENDING), ("_id", DESCENDING)], name="audit_action"),
    IndexModel([("at", ASCENDING)], name="audit_time"),
]
SEAL_INDEXES = [IndexModel([("entry", ASCENDING)], name="audit_sealed_once", unique=True)]
_BATCH = 1_000
# An entry has the time at which its write began, so it may appear after entries with later times.
_LATE = timedelta(seconds=60)


class AuditTrail:
    """The audit trail in MongoDB; its entries are only added."""

    key = UUID

    def __init__(self, store: Store) -> None:
        self._collection = store["audit_log"]

    async def add(self, entry: dict[str, Any]) -> None:
        """Add an entry before the change that it records: without transactions, a spare one is better than none."""
        # An upsert, because only an update can use the database's clock.
        written = {"$setOnInsert": entry, "$currentDate": {"at": True}}
        async with bounded():
            await self._collection.update_one({"_id": uuid7()}, written, upsert=True)

    async def list(self, wanted: AuditFilter, *, limit: int, before: UUID | None) -> Sequence[AuditEntry]:
        """Return the newest first; `before` is the id of the last entry of the page before."""
        values = wanted.values()
        times = {"$gte": values.pop("from_", None), "$lt": values.pop("to", None)}
        query: Document = values
        if given := {operator: time for operator, time in times.items() if time is not None}:
            query["at"] = given
        if before is not None:
            query["_id"] = {"$lt": before}
        async with bounded():
            found = await self._collection.find(query).sort("_id", DESCENDING).limit(limit).to_list(limit)
        return [AuditEntry(id=document.pop("_id"), **document) for document in found]


class Chain:
    """The seals over the trail. No grant keeps the service from changing its entries, but the chain shows a change."""

    def __init__(self, store: Store, registry: CollectorRegistry | None = None) -> None:
        self._entries, self._seals = store["audit_log"], store["audit_seals"]
        self._sealed = Counter("audit_entries_sealed_total", "Audit entries chained", registry=registry)

    async def seal(self) -> None:
        """Chain the entries that have no seal. Replicas may do so at once: of two that want a place, one gets a
        duplicate key.
        """
        try:
            while await self._seal_batch() == _BATCH:
                pass
        except BulkWriteError:
            return

    async def _seal_batch(self) -> int:
        async with bounded():
            head = await self._seals.find_one(sort=[("_id", DESCENDING)]) or {"_id": 0, "hash": BEGINNING.hash}
            entries = await self._entries.aggregate(_unsealed(head.get("at"))).to_list(_BATCH)
        position, previous = head["_id"], bytes(head["hash"])
        latest = head.get("at")
        added = []
        for entry in entries:
            position, previous = position + 1, next_hash(previous, _sealable(entry))
            latest = max(latest or entry["at"], entry["at"])
            added.append({"_id": position, "entry": entry["_id"], "hash": previous, "at": latest})
        if added:
            async with bounded():
                await self._seals.insert_many(added)  # in order, and none after the first whose place is taken
            self._sealed.inc(len(added))
        return len(added)


class StoredChain:
    """The chain as `kit.trail.verify` and `kit.trail.expiry` read and shorten it."""

    _latest: datetime | None

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries, self._seals, self._expiries = store["audit_log"], store["audit_seals"], store["audit_expiries"]

    async def start(self) -> Head:
        async with bounded():
            last = await self._expiries.find_one(sort=[("_id", DESCENDING)])
        return Head(last["_id"], bytes(last["hash"])) if last else BEGINNING

    async def links(self, start: Head) -> AsyncIterator[Link]:
        self._latest = None
        async for link in _in_batches(self._seals, _lookup("audit_log", "entry", "_id"), {"_id": {"$gt": start[0]}}):
            entry = next((_sealable(entry) for entry in link["joined"]), None)
            is_late = entry is not None and self._is_late(entry)
            yield Link(link["_id"], bytes(link["hash"]), link["entry"], entry, is_late)
            self._latest = link["at"]

    async def unsealed(self) -> AsyncIterator[Unsealed]:
        async for entry in _in_batches(self._entries, _lookup("audit_seals", "_id", "entry"), {}):
            if not entry["joined"]:
                yield Unsealed(entry["_id"], self._is_late(entry))

    async def announce(self, expired: dict[str, Any]) -> None:
        await AuditTrail(self._store).add(expired)
        await Chain(self._store).seal()

    async def remove(self, through: Head) -> None:
        """Delete each entry before its seal: an entry that lost its seal would look like one added to the past."""
        if through == BEGINNING:
            return
        async with bounded():
            await self._expiries.update_one(
                {"_id": through.position}, {"$setOnInsert": {"hash": through.hash}}, upsert=True
            )
        while True:
            async with bounded():
                seals = await self._seals.find({"_id": {"$lte": through.position}}).limit(_BATCH).to_list(_BATCH)
                await self._entries.delete_many({"_id": {"$in": [one["entry"] for one in seals]}})
                await self._seals.delete_many({"_id": {"$in": [one["_id"] for one in seals]}})
            if not seals:
                return

    def _is_late(self, entry: Document) -> bool:
        return self._latest is not None and entry["at"] < self._latest - _LATE


def _lookup(other: str, own_field: str, its_field: str) -> Document:
    return {"$lookup": {"from": other, "localField": own_field, "foreignField": its_field, "as": "joined"}}


def _unsealed(latest: datetime | None) -> list[Document]:
    """Return the first entries without a seal, beginning a little before the latest sealed one."""
    return [
        {"$match": {"at": {"$gte": latest - _LATE}} if latest is not None else {}},
        {"$sort": {"at": 1, "_id": 1}},
        _lookup("audit_seals", "_id", "entry"),
        {"$match": {"joined": []}},
        {"$limit": _BATCH},
    ]


async def _in_batches(collection: Collection, joined: Document, after: Document) -> AsyncIterator[Document]:
    """Yield the documents that match `after` by id, in batches that each end within the time limit."""
    while True:
        async with bounded():
            found = await collection.aggregate(
                [{"$match": after}, {"$sort": {"_id": 1}}, {"$limit": _BATCH}, joined]
            ).to_list(_BATCH)
        if not found:
            return
        for document in found:
            yield document
        after = {"_id": {"$gt": found[-1]["_id"]}}


def _sealable(entry: Document) -> Document:
    return {**entry, "seq": entry["_id"]}
