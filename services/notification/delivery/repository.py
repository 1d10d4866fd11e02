"""The notifications that are on their way outside of the app.

`nextAttemptAt` is when one is due, and while an attempt runs when its lease ends: a worker that died has nothing to
clean up. All of these times are the database's. Every change but the one to SENT compares the token of the claim that
it belongs to, and each may be repeated when its answer was lost.
"""

from collections.abc import Collection as Channels
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument

from services.notification.delivery.schemas import Claim, Delivery, Reason
from services.notification.inbox.schemas import Channel, NotificationStatus
from services.notification.repository import Document, Store, answering

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


class DeliveryRepository:
    def __init__(self, store: Store) -> None:
        self._collection = store["notifications"]

    async def claim(self, channel: Channel, lease_seconds: float) -> Claim | None:
        """The delivery that is due for longest, counted as attempted; None when there is none."""
        due = {
            "channel": channel.value,
            "nextAttemptAt": {"$exists": True},
            "$expr": {"$lte": ["$nextAttemptAt", _NOW]},
        }
        taken = {"token": uuid4(), "attempts": {"$add": ["$attempts", 1]}, "nextAttemptAt": _later(lease_seconds)}
        async with answering():
            document = await self._collection.find_one_and_update(
                due,
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
        """A mail's recipient, and when its secret expires, as auth has told them."""
        return await self._settle(claim, [{"$set": {"recipientId": recipient_id, "expiresAt": expires_at}}])

    async def mark_sent(self, claim: Claim, message: str) -> bool:
        """Whether the claim still stood; it is SENT in any case. `message` is the text as it has left, and is stored
        unless the one before was rewritten meanwhile: then somebody was erased.

        A claim whose answer never came, because MongoDB hung, may have taken the delivery when MongoDB went on. Were
        the token to decide then, a message that is known to have left would leave again.
        """
        unmarked = {"_id": claim.id, "status": {"$ne": NotificationStatus.SENT.value}}
        untouched = {"$eq": ["$message", {"$literal": claim.message}]}
        text = {"$cond": [untouched, {"$literal": message}, "$message"]}
        sent = {"status": NotificationStatus.SENT.value, "sentAt": _NOW, "message": text}
        async with answering():
            before = await self._collection.find_one_and_update(
                unmarked,
                [{"$set": sent}, {"$unset": ["nextAttemptAt", "failedAt", "event", "token"]}],
                projection={"token": 1},
            )
        return not before or before.get("token") == claim.token

    async def put_off(self, claim: Claim, seconds: float, reason: Reason, error: str) -> bool:
        return await self._settle(claim, [{"$set": {"nextAttemptAt": _later(seconds), **_why(reason, error)}}])

    async def fail(self, claim: Claim, reason: Reason, error: str) -> bool:
        failed = {"status": NotificationStatus.FAILED.value, "failedAt": _NOW, **_why(reason, error)}
        return await self._settle(claim, [{"$set": failed}, {"$unset": "nextAttemptAt"}])

    async def skip(self, claim: Claim, reason: Reason, error: str) -> bool:
        skipped = {"status": NotificationStatus.SKIPPED.value, **_why(reason, error)}
        if reason is Reason.ERASED:
            skipped["message"] = ""
        return await self._settle(claim, [{"$set": skipped}, {"$unset": ["nextAttemptAt", "event", "token"]}])

    async def release(self, claim: Claim) -> bool:
        """As if it had not been claimed."""
        undone = {"attempts": claim.attempts - 1, "nextAttemptAt": _NOW}
        return await self._settle(claim, [{"$set": undone}, {"$unset": "token"}])

    async def _settle(self, claim: Claim, change: list[dict[str, Any]]) -> bool:
        async with answering():
            result = await self._collection.update_one({"_id": claim.id, "token": claim.token}, change)
        return bool(result.matched_count)

    async def list_for(self, appointment_id: UUID, *, before: UUID | None, limit: int) -> list[Delivery]:
        """Newest first."""
        query: Document = {"appointmentId": appointment_id}
        if before is not None:
            query["_id"] = {"$lt": before}
        async with answering():
            found = self._collection.find(query, hint="delivery_appointment").sort("_id", DESCENDING).limit(limit)
            documents = await found.to_list(limit)
        return [_delivery(document) for document in documents]

    async def list_failed(self, *, before: tuple[datetime, UUID] | None, limit: int) -> list[Delivery]:
        """The latest failure first."""
        query: Document = {"failedAt": {"$exists": True}}
        if before is not None:
            query = {"failedAt": {"$lte": before[0]}, "$nor": [{"failedAt": before[0], "_id": {"$gte": before[1]}}]}
        order = [("failedAt", DESCENDING), ("_id", DESCENDING)]
        async with answering():
            found = self._collection.find(query, hint="delivery_failed").sort(order).limit(limit)
            documents = await found.to_list(limit)
        return [_delivery(document) for document in documents]

    async def find(self, delivery_id: UUID) -> Delivery | None:
        async with answering():
            document = await self._collection.find_one({"_id": delivery_id})
        return _delivery(document) if document else None

    async def revive(self, delivery_id: UUID, channels: Channels[Channel]) -> bool:
        """A failed delivery is due at once, with all its attempts before it. False when there is no such one."""
        failed = {
            "_id": delivery_id,
            "status": NotificationStatus.FAILED.value,
            "channel": {"$in": [channel.value for channel in channels]},
        }
        due = {"status": NotificationStatus.PENDING.value, "attempts": 0, "nextAttemptAt": _NOW, "replayedAt": _NOW}
        async with answering():
            result = await self._collection.update_one(failed, [{"$set": due}, {"$unset": ["failedAt", "token"]}])
        return bool(result.modified_count)

    async def count_sent(
        self, channel: Channel, recipient_id: UUID, patient_id: UUID, doctor_id: UUID, *, within: timedelta
    ) -> int:
        """Return how many deliveries about this patient and doctor were created within that time and left."""
        sent = {
            "recipientId": recipient_id,
            "channel": channel.value,
            "_id": {"$gte": _first_id(datetime.now(UTC) - within)},
            "status": NotificationStatus.SENT.value,
            "patientId": patient_id,
            "doctorId": doctor_id,
        }
        async with answering():
            return await self._collection.count_documents(sent, hint="notification_list", limit=_MANY)

    async def count_due(self, channel: Channel) -> tuple[int, float]:
        """How many are due, to 10,000, and the age of the oldest one, due or not, in seconds."""
        due = {
            "channel": channel.value,
            "nextAttemptAt": {"$exists": True},
            "$expr": {"$lte": ["$nextAttemptAt", _NOW]},
        }
        async with answering():
            count = await self._collection.count_documents(due, hint="delivery_due", limit=_MANY)
            ages = self._collection.aggregate(
                [
                    {"$match": {"status": NotificationStatus.PENDING.value, "channel": channel.value}},
                    {"$sort": {"createdAt": 1}},
                    {"$limit": 1},
                    {"$project": {"age": {"$subtract": [_NOW, "$createdAt"]}}},
                ],
                hint="notification_undelivered",
            )
            oldest = await ages.to_list(1)
        return count, max(0.0, oldest[0]["age"] / 1000) if oldest else 0.0


def _first_id(at: datetime) -> UUID:
    """Return the lowest id of version 7 that could be made at that instant."""
    return UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62))


def _later(seconds: float) -> Document:
    return {"$add": [_NOW, timedelta(seconds=seconds) // timedelta(milliseconds=1)]}


def _why(reason: Reason, error: str) -> Document:
    # Literally, because a text that begins with a dollar sign would be taken for the name of a field.
    return {"reason": reason.value, "error": {"$literal": error}}


def _delivery(document: Document) -> Delivery:
    found = {**dict.fromkeys(_OPTIONAL), **document, "id": document["_id"]}
    if found["nextAttemptAt"] is not None:
        # One that is due at once is due since it exists.
        found["nextAttemptAt"] = max(found["nextAttemptAt"], found["createdAt"])
    return msgspec.convert(found, Delivery)
