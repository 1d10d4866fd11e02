"""Notifications, put into MongoDB without an event; with a `message`, as the former release stored them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from services.contracts.events import UserState
from services.notification.inbox.schemas import Notification
from services.notification.notifying.schemas import Channel, NotificationStatus, NotificationType
from services.notification.repository import Store


def notification(recipient: UserState | UUID, **changes: Any) -> Notification:
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "id": uuid7(),
        "recipient_id": recipient.id if isinstance(recipient, UserState) else recipient,
        "channel": Channel.IN_APP,
        "type": NotificationType.APPOINTMENT_CREATED,
        "appointment_id": uuid7(),
        "patient_id": uuid7(),
        "doctor_id": uuid7(),
        "message": "Your appointment is confirmed.",
        "status": NotificationStatus.SENT,
        "created_at": now,
        "sent_at": now,
        "read_at": None,
        "attempts": 1,
    }
    return Notification(**fields | changes)


async def add(store: Store, *notifications: Notification, **more: Any) -> None:
    """Store notifications; `more` are further fields of their documents."""
    for one in notifications:
        fields = msgspec.to_builtins(one, builtin_types=(UUID, datetime))
        document = {"_id": fields.pop("id"), "eventId": uuid7(), **fields, **more}
        await store["notifications"].insert_one(document | ({"unread": True} if one.channel == "IN_APP" else {}))
