"""The inbox on the wire."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.kit.schema import Request, Wire
from services.notification.notifying.schemas import Channel, NotificationStatus, NotificationType

NotificationIds = Annotated[list[UUID], Meta(max_length=100, examples=[["019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073"]])]


class Notification(Wire, frozen=True):
    """A notification about an appointment has all three of its ids; one about an account, an e-mail, has none.

    `message` is worded when it is read: with the names, the language and the time zone of that moment.
    """

    id: UUID
    recipient_id: UUID
    channel: Channel
    type: NotificationType
    appointment_id: UUID | None
    patient_id: UUID | None
    doctor_id: UUID | None
    message: Annotated[
        str, Meta(examples=["Your appointment with Ada Example on Tuesday, 1 December 2026, 09:30 (UTC) is confirmed."])
    ]
    status: NotificationStatus
    created_at: datetime
    sent_at: datetime | None
    read_at: datetime | None
    attempts: int

    def __post_init__(self) -> None:
        for id in (self.appointment_id, self.patient_id, self.doctor_id):
            if (id is not None) is not self.type.is_about_appointment:
                raise ValueError("Expected the ids of an appointment where it is about one, and only there")


class NotificationFilter(msgspec.Struct, frozen=True, kw_only=True):
    type: NotificationType | None = None
    unread: bool | None = None
    status: NotificationStatus | None = None
    channel: Channel = Channel.IN_APP


class ReadMark(Request, frozen=True):
    """Which notifications have been read: those in `ids`, or all of them."""

    ids: NotificationIds | UnsetType = UNSET
    all: Annotated[bool, Meta(examples=[True])] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.ids is UNSET) == (self.all is UNSET) or self.all is False:
            raise ValueError("Expected either `ids` or `all` as true")


class ReadResult(Wire, frozen=True):
    changed: int


class Statistics(Wire, frozen=True):
    """`unread` counts in-app notifications; `oldestUndeliveredAt` is when the oldest PENDING one was due."""

    total: int
    unread: int
    by_type: Annotated[dict[NotificationType, int], Meta(examples=[{"APPOINTMENT_CREATED": 1}])]
    by_channel: Annotated[dict[Channel, int], Meta(examples=[{"IN_APP": 1}])]
    by_status: Annotated[dict[NotificationStatus, int], Meta(examples=[{"SENT": 1}])]
    oldest_undelivered_at: datetime | None
