"""Storing notifications: one document per event, recipient and channel.

A document has the API's fields but `message`, which is made when it is read, and `unread` until an in-app one has been
read. One that leaves the app has `nextAttemptAt` while it is PENDING. Before `visibleFrom`, no list shows it and no
count of unread or undelivered notifications includes it. A notification that is stored ahead of time has an id of that
time, because lists and streams are ordered by ids.

Documents of the former release have a `message`, which is shown as it is; their in-app ones have no `event`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from pymongo import ASCENDING, IndexModel, UpdateOne
from pymongo.errors import BulkWriteError

from services.notification.notifying.schemas import Channel, NewNotification, NotificationStatus
from services.notification.repository import DUPLICATE_KEY, Document, Store, bounded

_HAS_MESSAGE: Document = {"message": {"$exists": True}}
_KEY, _ONCE = ("eventId", "recipientId", "channel"), "notification_once"
INDEXES = [
    # One notification per event, recipient and channel, however often and by however many consumers it is handled.
    IndexModel([(field, ASCENDING) for field in _KEY], name=_ONCE, unique=True),
    IndexModel([("patientId", ASCENDING)], name="message_patient", partialFilterExpression=_HAS_MESSAGE),
    IndexModel([("doctorId", ASCENDING)], name="message_doctor", partialFilterExpression=_HAS_MESSAGE),
]
# Due at once, however far this clock is ahead of the database's.
_AT_ONCE = datetime.fromtimestamp(0, UTC)
_BATCH = 500


class NotificationRepository:
    def __init__(self, store: Store) -> None:
        self._collection = store["notifications"]

    async def add(self, notifications: Sequence[NewNotification]) -> Sequence[NewNotification]:
        """Store those that are not there yet, and return them; when this returns, all are stored durably.

        A duplicate is durable too: MongoDB answers a write that changed nothing only after it has flushed its journal.
        """
        if not notifications:
            return []
        writes = [_once(one) for one in notifications]
        async with bounded():
            try:
                result = await self._collection.bulk_write(writes, ordered=False)
            except BulkWriteError as error:
                failures: list[dict[str, Any]] = error.details["writeErrors"]
                if error.details["writeConcernErrors"] or any(item["code"] != DUPLICATE_KEY for item in failures):
                    raise
                upserted = {item["index"] for item in error.details["upserted"]}
            else:
                upserted = set(result.upserted_ids or ())
        return [one for index, one in enumerate(notifications) if index in upserted]

    async def forget(self, user_id: UUID) -> None:
        """Take the stored texts from notifications of the former release that are about this user's appointments."""
        for party in ("patientId", "doctorId"):
            about = {party: user_id, **_HAS_MESSAGE}
            while True:
                async with bounded():
                    found = await self._collection.find(about, {"_id": 1}).limit(_BATCH).to_list(_BATCH)
                    if not found:
                        break
                    ids = [document["_id"] for document in found]
                    await self._collection.update_many({"_id": {"$in": ids}}, {"$unset": {"message": "", "error": ""}})


def _once(notification: NewNotification) -> UpdateOne:
    """Insert it unless it is there. MongoDB refuses the hint, and with it the write, while the unique index is missing:
    without the index, as in an empty database that replaced this one, two consumers could both store it.
    """
    document = _document(notification)
    same = {name: document.get(name, {"$exists": False}) for name in _KEY}
    return UpdateOne(same, {"$setOnInsert": document}, upsert=True, hint=_ONCE)


def _document(notification: NewNotification) -> Document:
    fields: Document = msgspec.to_builtins(notification, builtin_types=(UUID, datetime))
    created_at = notification.created_at
    document = {"_id": fields.pop("id"), **fields, "visibleFrom": created_at, "readAt": None}
    if notification.channel is Channel.IN_APP:
        # It has arrived by being stored.
        return document | {"status": NotificationStatus.SENT.value, "sentAt": created_at, "attempts": 1, "unread": True}
    return document | {
        "status": NotificationStatus.PENDING.value,
        "sentAt": None,
        "attempts": 0,
        "nextAttemptAt": _AT_ONCE,
    }
