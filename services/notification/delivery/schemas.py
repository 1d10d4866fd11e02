"""Deliveries: notifications on their way out of the app."""

from datetime import datetime
from uuid import UUID

from services.kit.schema import Wire
from services.notification.delivery.outcomes import Reason
from services.notification.notifying.schemas import Channel, NotificationStatus, NotificationType


class Delivery(Wire, frozen=True):
    """A notification and its attempts.

    `nextAttemptAt` is null when no attempt will follow; while one runs, it is when another replica would take over.
    `reason` and `error` are those of the last failed attempt; `error` goes once the notification is sent. A mail about
    an account has no appointment, and no recipient until auth was asked for the first time.
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
    """A delivery that one worker has to itself until its lease ends; `event` is the event as JSON.

    `claimed_at` is by the database's clock. A mail about an account has no `recipient_id` until auth was asked about
    it; from then on, `expires_at` is when its secret expires.
    """

    id: UUID
    token: UUID
    channel: Channel
    attempts: int
    created_at: datetime
    claimed_at: datetime
    event: str
    recipient_id: UUID | None = None
    expires_at: datetime | None = None
    request_id: str | None = None
    traceparent: str | None = None

    @property
    def is_urgent(self) -> bool:
        """Its secret expires."""
        return self.recipient_id is None or self.expires_at is not None
