"""The kinds of notifications, and what is stored of each."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec


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


class NewNotification(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One recipient's notification of one event in one channel.

    `event` is the event as JSON; the text is made from it whenever it is read or sent. A mail about an account has its
    event's id as its own and no recipient: only auth knows the recipient, and is asked when the mail is sent.
    """

    id: UUID
    event_id: UUID
    channel: Channel
    type: NotificationType
    event: str
    created_at: datetime
    request_id: str | None
    traceparent: str | None
    recipient_id: UUID | None = None
    appointment_id: UUID | None = None
    patient_id: UUID | None = None
    doctor_id: UUID | None = None
