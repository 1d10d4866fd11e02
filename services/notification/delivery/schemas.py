"""Deliveries: what is known of a notification on its way."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from services.kit.schema import Wire
from services.notification.inbox.schemas import Channel, NotificationStatus, NotificationType


class Reason(StrEnum):
    """Why an attempt failed. The first three are final."""

    RECIPIENT_REFUSED = "recipient_refused"
    MESSAGE_REFUSED = "message_refused"
    MALFORMED_ADDRESS = "malformed_address"
    NO_ADDRESS = "no_address"
    CONTACT_UNAVAILABLE = "contact_unavailable"
    SERVER_UNREACHABLE = "server_unreachable"
    SERVER_BUSY = "server_busy"
    SENDER_REFUSED = "sender_refused"
    TIMED_OUT = "timed_out"
    INTERNAL_ERROR = "internal_error"


class Delivery(Wire, frozen=True):
    """A notification and its way. `next_attempt_at` is null when there will be none; while an attempt runs it is when
    another replica would take over. `reason` and `error` are those of the last attempt that failed.
    """

    id: UUID
    event_id: UUID
    appointment_id: UUID
    recipient_id: UUID
    channel: Channel
    type: NotificationType
    status: NotificationStatus
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    sent_at: datetime | None
    failed_at: datetime | None
    replayed_at: datetime | None
    reason: Reason | None
    error: str | None


class Claim(Wire, frozen=True):
    """A delivery that one worker has to itself until its lease ends; `event` is what its text is made of, as JSON."""

    id: UUID
    token: UUID
    channel: Channel
    recipient_id: UUID
    attempts: int
    created_at: datetime
    event: str
    request_id: str | None = None
    traceparent: str | None = None
