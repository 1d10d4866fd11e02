"""The notifications' documents: the API's fields, `eventId`, and `unread` until an in-app one has been read.

One that is delivered outside of the app has `nextAttemptAt` while it is PENDING, and what it is made of then. A mail
that auth wants sent has its event's id as its own, and no `recipientId` before auth was asked.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any
from uuid import UUID

import msgspec
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import BulkWriteError, DuplicateKeyError

from services.notification.inbox.schemas import (
    Channel,
    Notification,
    NotificationFilter,
    NotificationStatus,
    NotificationType,
    Statistics,
)
from services.notification.repository import DUPLICATE_KEY, Document, Store, answering

INDEXES = [
    # The promise of one notification per event, person and channel, whatever is delivered twice or by two at once.
    IndexModel(
        [("eventId", ASCENDING), ("recipientId", ASCENDING), ("channel", ASCENDING)],
        name="notification_once",
        unique=True,
    ),
    # What a filter refuses is refused by the key, without reading its document.
    IndexModel(
        [
            ("recipientId", ASCENDING),
            ("channel", ASCENDING),
            ("_id", DESCENDING),
            ("type", ASCENDING),
            ("status", ASCENDING),
        ],
        name="notification_list",
    ),
    # A flag, since a null cannot be counted by its keys alone: 100,000 took 2.6 s by `readAt: null`.
    IndexModel(
        [("unread", ASCENDING), ("recipientId", ASCENDING), ("_id", DESCENDING)],
        name="notification_unread",
        partialFilterExpression={"unread": True},
    ),
    IndexModel(
        [("type", ASCENDING), ("channel", ASCENDING), ("status", ASCENDING)],
        name="notification_counts",
    ),
    IndexModel(
        [("createdAt", ASCENDING)],
        name="notification_undelivered",
        partialFilterExpression={"status": NotificationStatus.PENDING.value},
    ),
]
_APPOINTMENT = ("appointmentId", "patientId", "doctorId")
# Due at once, however far the writer's clock is ahead of the database's.
AT_ONCE = datetime.fromtimestamp(0, UTC)


class NotificationRepository:
    def __init__(self, store: Store) -> None:
        self._collection = store["notifications"]

    async def add(
        self, event_id: UUID, notifications: Sequence[Notification], material: Document | None = None
    ) -> Sequence[Notification]:
        """All of them are there, durably, when this returns; those that already were stay as they are.

        Answers with the new ones. A refused duplicate is durable too: MongoDB answers a batch with an error in it only
        after the journal's flush. `material` is what those for outside of the app are made of when they leave.
        """
        documents = [_document(event_id, notification, material or {}) for notification in notifications]
        async with answering():
            try:
                await self._collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                errors: list[dict[str, Any]] = error.details["writeErrors"]
                if error.details["writeConcernErrors"] or any(item["code"] != DUPLICATE_KEY for item in errors):
                    raise
                repeated = {item["index"] for item in errors}
                return [one for index, one in enumerate(notifications) if index not in repeated]
        return notifications

    async def add_mail(self, event_id: UUID, type: NotificationType, message: str, material: Document) -> bool:
        """Whether it is new. Unique by the event alone: its recipient is not known now, and will be when it repeats."""
        document = {
            "_id": event_id,
            "eventId": event_id,
            "channel": Channel.EMAIL.value,
            "type": type.value,
            "message": message,
            "status": NotificationStatus.PENDING.value,
            "createdAt": datetime.now(UTC),
            "sentAt": None,
            "readAt": None,
            "attempts": 0,
            "nextAttemptAt": AT_ONCE,
            **material,
        }
        async with answering():
            try:
                await self._collection.insert_one(document)
            except DuplicateKeyError:
                return False
        return True

    async def list(
        self, recipient_id: UUID, wanted: NotificationFilter, *, before: UUID | None, limit: int
    ) -> list[Notification]:
        """Newest first, by the id, which grows with time."""
        query: Document = {"recipientId": recipient_id, "channel": wanted.channel.value}
        if before is not None:
            query["_id"] = {"$lt": before}
        if wanted.type is not None:
            query["type"] = wanted.type.value
        if wanted.status is not None:
            query["status"] = wanted.status.value
        if wanted.unread is not None:
            query |= {"unread": True} if wanted.unread else {"readAt": {"$ne": None}}
        # Left to itself, the planner may walk everybody's notifications down the primary key.
        hint = "notification_unread" if wanted.unread else "notification_list"
        async with answering():
            found = self._collection.find(query, hint=hint).sort("_id", DESCENDING).limit(limit)
            documents = await found.to_list(limit)
        return [_notification(document) for document in documents]

    async def list_told(self, recipient_id: UUID, *, after: UUID, limit: int) -> Sequence[Notification]:
        """What has arrived in the app, oldest first, by the id."""
        return await self._told({"recipientId": recipient_id, "_id": {"$gt": after}}, limit)

    async def find_told(self, recipient_id: UUID, ids: Collection[UUID]) -> Sequence[Notification]:
        """Those of `ids` that have arrived in the recipient's app, oldest first."""
        return await self._told({"recipientId": recipient_id, "_id": {"$in": list(ids)}}, len(ids))

    async def _told(self, query: Document, limit: int) -> Sequence[Notification]:
        query |= {"channel": Channel.IN_APP.value, "status": NotificationStatus.SENT.value}
        async with answering():
            found = self._collection.find(query, hint="notification_list").sort("_id", ASCENDING).limit(limit)
            documents = await found.to_list(limit)
        return [_notification(document) for document in documents]

    async def mark_read(self, recipient_id: UUID, ids: Sequence[UUID] | None) -> int:
        """How many were unread until now, of all that the recipient has or of those with the given ids."""
        query: Document = {"unread": True, "recipientId": recipient_id}
        if ids is not None:
            query["_id"] = {"$in": list(ids)}
        async with answering():
            result = await self._collection.update_many(
                query,
                {"$set": {"readAt": datetime.now(UTC)}, "$unset": {"unread": ""}},
                hint="notification_unread",
            )
        return int(result.modified_count)

    async def statistics(self) -> Statistics:
        """Counted by index keys alone, under 1 s for a million; a $group over the same keys takes 2 to 3 s."""
        by_type = dict.fromkeys(NotificationType, 0)
        by_channel = dict.fromkeys(Channel, 0)
        by_status = dict.fromkeys(NotificationStatus, 0)
        async with answering():
            for kind, channel, status in product(NotificationType, Channel, NotificationStatus):
                keys = {"type": kind.value, "channel": channel.value, "status": status.value}
                count = await self._collection.count_documents(keys, hint="notification_counts")
                by_type[kind] += count
                by_channel[channel] += count
                by_status[status] += count
            unread = await self._collection.count_documents({"unread": True}, hint="notification_unread")
            oldest = await self._collection.find_one(
                {"status": NotificationStatus.PENDING.value}, sort=[("createdAt", 1)]
            )
        return Statistics(
            total=sum(by_type.values()),
            unread=unread,
            by_type=by_type,
            by_channel=by_channel,
            by_status=by_status,
            oldest_undelivered_at=oldest["createdAt"] if oldest else None,
        )


def _notification(document: Document) -> Notification:
    return msgspec.convert({**dict.fromkeys(_APPOINTMENT), **document, "id": document["_id"]}, Notification)


def _document(event_id: UUID, notification: Notification, material: Document) -> Document:
    fields: Document = msgspec.to_builtins(notification, builtin_types=(UUID, datetime))
    document = {"_id": fields.pop("id"), "eventId": event_id, **fields}
    if notification.channel is Channel.IN_APP:
        document["unread"] = True
    else:
        document |= {"nextAttemptAt": AT_ONCE, **material}
    return document
