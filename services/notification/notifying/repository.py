"""Storing notifications: one document per event, recipient and channel.

A document has the API's fields but `message`, which is made when it is read, and `unread` until an in-app one has been
read. One that leaves the app has `nextAttemptAt` while it is PENDING. Before `visibleFrom` it is in no list and in no
count of what is unread or undelivered; who stores one ahead of time gives it an id of that time, so that lists and
streams, which go by ids, have it in its place.

Documents of the former release have a `message`, and those of the app no `event`: the message is shown as it is.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from pymongo import ASCENDING, IndexModel
from pymongo.errors import BulkWriteError

from services.notification.notifying.schemas import Channel, NewNotification, NotificationStatus
from services.notification.repository import DUPLICATE_KEY, Document, Store, bounded

_HAS_MESSAGE: Document = {"message": {"$exists": True}}
INDEXES = [
    # One notification per event, recipient and channel, however often and by however many consumers it is handled.
    IndexModel(
        [("eventId", ASCENDING), ("recipientId", ASCENDING), ("channel", ASCENDING)],
        name="notification_once",
        unique=True,
    ),
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

        A refused duplicate is durable too: MongoDB answers a batch with an error in it only after it has flushed its
        journal.
        """
        if not notifications:
            return []
        async with bounded():
            try:
                await self._collection.insert_many([_document(one) for one in notifications], ordered=False)
            except BulkWriteError as error:
                errors: list[dict[str, Any]] = error.details["writeErrors"]
                if error.details["writeConcernErrors"] or any(item["code"] != DUPLICATE_KEY for item in errors):
                    raise
                repeated = {item["index"] for item in errors}
                return [one for index, one in enumerate(notifications) if index not in repeated]
        return notifications

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
