from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pymongo import ASCENDING, DESCENDING, IndexModel
from uuid_utils.compat import uuid7

from services.kit.audit import AuditEntry, AuditFilter
from services.notification.repository import Document, Store, answering

INDEXES = [
    IndexModel([("actor_id", ASCENDING), ("_id", DESCENDING)], name="audit_actor"),
    IndexModel([("target_id", ASCENDING), ("_id", DESCENDING)], name="audit_target"),
    IndexModel([("action", ASCENDING), ("_id", DESCENDING)], name="audit_action"),
    IndexModel([("at", ASCENDING)], name="audit_time"),
]


class AuditTrail:
    """The audit trail in MongoDB, which nothing here changes or removes."""

    key = UUID

    def __init__(self, store: Store) -> None:
        self._collection = store["audit_log"]

    async def add(self, entry: dict[str, Any]) -> None:
        """Before what it tells of, as there are no transactions: rather one too many than one that is missing."""
        # An upsert and not an insert, because only an update knows the database's clock.
        written = {"$setOnInsert": entry, "$currentDate": {"at": True}}
        async with answering():
            await self._collection.update_one({"_id": uuid7()}, written, upsert=True)

    async def list(self, wanted: AuditFilter, *, limit: int, before: UUID | None) -> Sequence[AuditEntry]:
        """The newest first; `before` is the id of the last one already seen."""
        values = wanted.values()
        times = {"$gte": values.pop("from_", None), "$lt": values.pop("to", None)}
        query: Document = values
        if given := {operator: time for operator, time in times.items() if time is not None}:
            query["at"] = given
        if before is not None:
            query["_id"] = {"$lt": before}
        async with answering():
            found = await self._collection.find(query).sort("_id", DESCENDING).limit(limit).to_list(limit)
        return [AuditEntry(id=document.pop("_id"), **document) for document in found]
