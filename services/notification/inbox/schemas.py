"""The inbox on the wire. A notification is one document per event, recipient and channel."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from litestar.params import PathParameter
from msgspec import UNSET, Meta, UnsetType

from services.kit.http.schema import Request, Wire

NotificationIds = Annotated[list[UUID], Meta(max_length=100, examples=[["019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073"]])]
UserId = Annotated[UUID, PathParameter(name="userId")]


class NotificationType(StrEnum):
    APPOINTMENT_CREATED = "APPOINTMENT_CREATED"
    APPOINTMENT_UPDATED = "APPOINTMENT_UPDATED"
    APPOINTMENT_CANCELLED = "APPOINTMENT_CANCELLED"
    APPOINTMENT_RESCHEDULED = "APPOINTMENT_RESCHEDULED"
    PASSWORD_RESET = "PASSWORD_RESET"  # noqa: S105
    EMAIL_VERIFICATION = "EMAIL_VERIFICATION"
    PASSWORD_CHANGED = "PASSWORD_CHANGED"  # noqa: S105
    EMAIL_CHANGED = "EMAIL_CHANGED"
    MFA_ENABLED = "MFA_ENABLED"
    MFA_DISABLED = "MFA_DISABLED"

    @property
    def is_about_appointment(self) -> bool:
        return self.startswith("APPOINTMENT_")


class NotificationStatus(StrEnum):
    PENDING = "PENDING"
    SENT = "SENT"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class Channel(StrEnum):
    IN_APP = "IN_APP"
    EMAIL = "EMAIL"


class Notification(Wire, frozen=True):
    """One about an appointment has all three ids of it; one about an account, which is an e-mail only, has none."""

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
    """Which notifications have been read: those of `ids`, or every one."""

    ids: NotificationIds | UnsetType = UNSET
    all: Annotated[bool, Meta(examples=[True])] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.ids is UNSET) == (self.all is UNSET) or self.all is False:
            raise ValueError("Expected either `ids` or `all` as true")


class ReadResult(Wire, frozen=True):
    changed: int


class Statistics(Wire, frozen=True):
    """`unread` counts in-app notifications; `oldest_undelivered_at` is when the oldest PENDING one was created."""

    total: int
    unread: int
    by_type: Annotated[dict[NotificationType, int], Meta(examples=[{"APPOINTMENT_CREATED": 1}])]
    by_channel: Annotated[dict[Channel, int], Meta(examples=[{"IN_APP": 1}])]
    by_status: Annotated[dict[NotificationStatus, int], Meta(examples=[{"SENT": 1}])]
    oldest_undelivered_at: datetime | None
