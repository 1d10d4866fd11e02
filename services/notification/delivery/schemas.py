"""Deliveries: what is known of a notification on its way."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from services.kit.http.schema import Wire
from services.notification.inbox.schemas import Channel, NotificationStatus, NotificationType


class Reason(StrEnum):
    """Why an attempt failed. The first three are final. A delivery is SKIPPED with `link_void`, `expired`, `erased` or
    `address_unverified`; with any other reason it is tried again.
    """

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
    LINK_VOID = "link_void"
    EXPIRED = "expired"
    ERASED = "erased"
    ADDRESS_UNVERIFIED = "address_unverified"
    TOO_MANY_MAILS = "too_many_mails"


class Delivery(Wire, frozen=True):
    """A notification and its way. `next_attempt_at` is null when there will be none; while an attempt runs it is when
    another replica would take over. `reason` and `error` are those of the last attempt that failed. A mail that auth
    wants sent has no appointment, and no recipient before auth was asked for the first time.
    """

    id: UUID
    event_id: UUID
    appointment_id: UUID | None
    recipient_id: UUID | None
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

    def __post_init__(self) -> None:
        if (self.appointment_id is not None) is not self.type.is_about_appointment:
            raise ValueError("Expected an appointment where it is about one, and only there")
        if self.recipient_id is None and self.type.is_about_appointment:
            raise ValueError("Expected a recipient")


class Claim(Wire, frozen=True):
    """A delivery that one worker has to itself until its lease ends; `event` is what its text is made of, as JSON, and
    `message` the one that it had by then.

    `claimed_at` is by the database's clock. A mail has no `recipient_id` before auth was first asked about it; from
    then on `expires_at` is when its secret does.
    """

    id: UUID
    token: UUID
    channel: Channel
    attempts: int
    created_at: datetime
    claimed_at: datetime
    event: str
    message: str
    recipient_id: UUID | None = None
    expires_at: datetime | None = None
    request_id: str | None = None
    traceparent: str | None = None

    @property
    def is_urgent(self) -> bool:
        """It has a secret in it, which expires."""
        return self.recipient_id is None or self.expires_at is not None
