"""Notifications on their way out of the app.

`nextAttemptAt` is when a delivery is due and, while an attempt runs, when its lease ends: a worker that dies leaves
nothing to clean up. All of these times are by the database's clock. Every change but the one to SENT compares the
claim's token, and may be repeated when its answer was lost.
"""

from collections.abc import Collection as Channels
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument

from services.notification.delivery.outcomes import Reason
from services.notification.delivery.schemas import Claim, Delivery
from services.notification.notifying.schemas import Channel, NotificationStatus
from services.notification.repository import Document, Store, bounded

INDEXES = [
    IndexModel(
        [("channel", ASCENDING), ("nextAttemptAt", ASCENDING)],
        name="delivery_due",
        partialFilterExpression={"nextAttemptAt": {"$exists": True}},
    ),
    IndexModel([("appointmentId", ASCENDING), ("_id", DESCENDING)], name="delivery_appointment"),
    IndexModel(
        [("failedAt", DESCENDING), ("_id", DESCENDING)],
        name="delivery_failed",
        partialFilterExpression={"failedAt": {"$exists": True}},
    ),
]
_NOW = "$$NOW"
_MANY = 10_000
_OPTIONAL = ("appointmentId", "recipientId", "nextAttemptAt", "failedAt", "replayedAt", "reason", "error")
_UNSENT = [NotificationStatus.PENDING.value, NotificationStatus.FAILED.value]


class DeliveryRepository:
    def __init__(self, store: Store) -> None:
        self._collection = store["notifications"]

    async def claim(self, channel: Channel, lease_seconds: float) -> Claim | None:
        """Claim the delivery that has been due for longest, and count the attempt; None when none is due."""
        taken = {"token": uuid4(), "attempts": {"$add": ["$attempts", 1]}, "nextAttemptAt": _later(lease_seconds)}
        async with bounded():
            document = await self._collection.find_one_and_update(
                _due(channel),
                [{"$set": taken}],
                sort=[("nextAttemptAt", ASCENDING)],
                hint="delivery_due",
                return_document=ReturnDocument.AFTER,
            )
        if document is None:
            return None
        claimed_at = document["nextAttemptAt"] - timedelta(seconds=lease_seconds)
        return msgspec.convert({**document, "id": document["_id"], "claimedAt": claimed_at}, Claim)

    async def address(self, claim: Claim, recipient_id: UUID, expires_at: datetime) -> bool:
        """Store a mail's recipient, and when its secret expires, which only auth knows."""
        return await self._settle(claim, [{"$set": {"recipientId": recipient_id, "expiresAt": expires_at}}])

    async def mark_sent(self, claim: Claim) -> bool:
        """Mark it SENT in any case, and return whether the claim was still valid.

        A claim whose answer was lost because MongoDB hung may be executed when MongoDB goes on. If the token decided
        then, a message that has left would leave again.
        """
        unmarked = {"_id": claim.id, "status": {"$ne": NotificationStatus.SENT.value}}
        sent = {"status": NotificationStatus.SENT.value, "sentAt": _NOW}
        # `message` is the former release's: what was sent is worded by now.
        gone = ["nextAttemptAt", "failedAt", "error", "token", "message"]
        async with bounded():
            before = await self._collection.find_one_and_update(
                unmarked, [{"$set": sent}, {"$unset": gone}], projection={"token": 1}
            )
        return not before or before.get("token") == claim.token

    async def put_off(self, claim: Claim, seconds: float, reason: Reason, error: str) -> bool:
        return await self._settle(claim, [{"$set": {"nextAttemptAt": _later(seconds), **_why(reason, error)}}])

    async def fail(self, claim: Claim, reason: Reason, error: str) -> bool:
        failed = {"status": NotificationStatus.FAILED.value, "failedAt": _NOW, **_why(reason, error)}
        return await self._settle(claim, [{"$set": failed}, {"$unset": "nextAttemptAt"}])

    async def skip(self, claim: Claim, reason: Reason, error: str) -> bool:
        skipped = {"status": NotificationStatus.SKIPPED.value, **_why(reason, error)}
        return await self._settle(claim, [{"$set": skipped}, {"$unset": ["nextAttemptAt", "token"]}])

    async def release(self, claim: Claim) -> bool:
        """Undo the claim."""
        undone = {"attempts": claim.attempts - 1, "nextAttemptAt": _NOW}
        return await self._settle(claim, [{"$set": undone}, {"$unset": "token"}])

    async def _settle(self, claim: Claim, change: list[Document]) -> bool:
        async with bounded():
            result = await self._collection.update_one({"_id": claim.id, "token": claim.token}, change)
        return bool(result.matched_count)

    async def list_for(self, appointment_id: UUID, *, before: UUID | None, limit: int) -> list[Delivery]:
        """Return an appointment's deliveries, newest first."""
        query: Document = {"appointmentId": appointment_id}
        if before is not None:
            query["_id"] = {"$lt": before}
        return await self._list(query, "delivery_appointment", [("_id", DESCENDING)], limit)

    async def list_failed(self, *, before: tuple[datetime, UUID] | None, limit: int) -> list[Delivery]:
        """Return failed deliveries, the latest failure first."""
        query: Document = {"failedAt": {"$exists": True}}
        if before is not None:
            query = {"failedAt": {"$lte": before[0]}, "$nor": [{"failedAt": before[0], "_id": {"$gte": before[1]}}]}
        return await self._list(query, "delivery_failed", [("failedAt", DESCENDING), ("_id", DESCENDING)], limit)

    async def _list(self, query: Document, hint: str, order: list[tuple[str, int]], limit: int) -> list[Delivery]:
        async with bounded():
            documents = await self._collection.find(query, hint=hint).sort(order).limit(limit).to_list(limit)
        return [_delivery(document) for document in documents]

    async def find(self, delivery_id: UUID) -> Delivery | None:
        async with bounded():
            document = await self._collection.find_one({"_id": delivery_id})
        return _delivery(document) if document else None

    async def revive(self, delivery_id: UUID, channels: Channels[Channel]) -> bool:
        """Make a failed delivery due at once, with all its attempts ahead of it; False when it is not a failed one."""
        failed = {
            "_id": delivery_id,
            "status": NotificationStatus.FAILED.value,
            "channel": {"$in": [channel.value for channel in channels]},
        }
        due = {"status": NotificationStatus.PENDING.value, "attempts": 0, "nextAttemptAt": _NOW, "replayedAt": _NOW}
        async with bounded():
            result = await self._collection.update_one(failed, [{"$set": due}, {"$unset": ["failedAt", "token"]}])
        return bool(result.modified_count)

    async def forget(self, recipient_id: UUID) -> None:
        """Skip what an erased user has not been sent yet, and remove servers' words about the user."""
        skipped = {"status": NotificationStatus.SKIPPED.value, "reason": Reason.ERASED.value}
        gone = dict.fromkeys(("nextAttemptAt", "failedAt", "error", "token"), "")
        async with bounded():
            await self._collection.update_many(
                {"recipientId": recipient_id, "status": {"$in": _UNSENT}},
                {"$set": skipped, "$unset": gone},
                hint="notification_list",
            )

    async def count_due(self, channel: Channel) -> tuple[int, float]:
        """Return how many are due, up to 10,000, and for how many seconds the oldest has been waiting, due or not."""
        waiting = {
            "status": NotificationStatus.PENDING.value,
            "channel": channel.value,
            "$expr": {"$lte": ["$visibleFrom", _NOW]},
        }
        since = {"$ifNull": ["$visibleFrom", "$createdAt"]}
        async with bounded():
            count = await self._collection.count_documents(_due(channel), hint="delivery_due", limit=_MANY)
            ages = self._collection.aggregate(
                [
                    {"$match": waiting},
                    {"$sort": {"visibleFrom": 1, "createdAt": 1}},
                    {"$limit": 1},
                    {"$project": {"age": {"$subtract": [_NOW, since]}}},
                ],
                hint="notification_waiting",
            )
            oldest = await ages.to_list(1)
        return count, max(0.0, oldest[0]["age"] / 1000) if oldest else 0.0


def _due(channel: Channel) -> Document:
    return {
        "channel": channel.value,
        "nextAttemptAt": {"$exists": True},
        "$expr": {"$lte": ["$nextAttemptAt", _NOW]},
    }


def _later(seconds: float) -> Document:
    return {"$add": [_NOW, timedelta(seconds=seconds) // timedelta(milliseconds=1)]}


def _why(reason: Reason, error: str) -> Document:
    # As a literal, because a text that begins with a dollar sign would name a field.
    return {"reason": reason.value, "error": {"$literal": error}}


def _delivery(document: Document) -> Delivery:
    found: dict[str, Any] = {**dict.fromkeys(_OPTIONAL), **document, "id": document["_id"]}
    if found["nextAttemptAt"] is not None:
        # A delivery that is due at once has been due since it was stored.
        found["nextAttemptAt"] = max(found["nextAttemptAt"], found["createdAt"])
    return msgspec.convert(found, Delivery)
