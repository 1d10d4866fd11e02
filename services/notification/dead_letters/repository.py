"""Events that could not be handled, unchanged, until a month after a successful replay."""

from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import DuplicateKeyError
from uuid_utils.compat import uuid7

from services.contracts.streams import USERS
from services.kit.streams import events
from services.notification.dead_letters.schemas import DeadLetter
from services.notification.repository import Document, Store, bounded

_KEPT_SECONDS = 30 * 24 * 3600
_ONCE = "dead_letter_once"
_ABSENT: Document = {"$exists": False}
INDEXES = [
    IndexModel([("stream", ASCENDING), ("entryId", ASCENDING), ("fields.id", ASCENDING)], name=_ONCE, unique=True),
    IndexModel([("replayedAt", ASCENDING), ("createdAt", DESCENDING), ("_id", DESCENDING)], name="dead_letter_list"),
    IndexModel([("replayedAt", ASCENDING)], name="dead_letter_expiry", expireAfterSeconds=_KEPT_SECONDS),
]


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    stream: str
    entry_id: str
    fields: dict[str, str]
    replayed_at: datetime | None = None


class DeadLetterRepository:
    def __init__(self, store: Store) -> None:
        self._collection = store["dead_letters"]

    async def add(self, letter: events.DeadLetter) -> None:
        document = {
            "_id": uuid7(),
            "stream": letter.stream,
            "entryId": letter.entry_id,
            "reason": letter.reason,
            "error": letter.error,
            "fields": letter.fields,
            "createdAt": datetime.now(UTC),
        }
        same = {"stream": letter.stream, "entryId": letter.entry_id, "fields.id": letter.fields.get("id", _ABSENT)}
        async with bounded():
            # The delivery may be a repeated one, whose acknowledgement was lost. MongoDB refuses the hint, and with it
            # the write, while the unique index is missing.
            with suppress(DuplicateKeyError):
                await self._collection.update_one(same, {"$setOnInsert": document}, upsert=True, hint=_ONCE)

    async def list(self, *, before: tuple[datetime, UUID] | None, limit: int) -> list[DeadLetter]:
        """Return the newest first, without those that were replayed."""
        query: Document = {"replayedAt": None}
        if before is not None:
            query |= {"createdAt": {"$lte": before[0]}, "$nor": [{"createdAt": before[0], "_id": {"$gte": before[1]}}]}
        order = [("createdAt", DESCENDING), ("_id", DESCENDING)]
        async with bounded():
            # Without the content, whose size nothing bounds.
            found = self._collection.find(query, {"fields.payload": 0}, hint="dead_letter_list").sort(order)
            documents = await found.limit(limit).to_list(limit)
        return [_letter(document) for document in documents]

    async def find(self, letter_id: UUID) -> StoredEvent | None:
        async with bounded():
            document = await self._collection.find_one({"_id": letter_id})
        return msgspec.convert(document, StoredEvent) if document else None

    async def mark_replayed(self, letter_id: UUID) -> None:
        """Mark it as replayed, and drop its content, which may contain personal data."""
        async with bounded():
            await self._collection.update_one(
                {"_id": letter_id, "replayedAt": None},
                {"$set": {"replayedAt": datetime.now(UTC)}, "$unset": {"fields.payload": ""}},
            )

    async def forget(self, user_id: UUID) -> None:
        """Remove a user's own events: the erasure has overtaken them, and they may contain the name."""
        async with bounded():
            await self._collection.delete_many({"stream": USERS.name, "fields.aggregateid": str(user_id)})

    async def mark_failed_again(self, letter_id: UUID, error: str) -> None:
        async with bounded():
            await self._collection.update_one({"_id": letter_id, "replayedAt": None}, {"$set": {"error": error}})


def _letter(document: Document) -> DeadLetter:
    fields: dict[str, str] = document["fields"]
    return DeadLetter(
        id=document["_id"],
        kind="EVENT",
        reason=document["reason"],
        error=document["error"],
        died_at=document["createdAt"],
        event_id=fields.get("id"),
        stream=document["stream"],
        entry_id=document["entryId"],
        event_type=fields.get("type"),
    )
