"""Dead letters: what was given up, and waits for somebody to look at it."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from services.kit.schema import Wire
from services.notification.inbox.schemas import Channel, NotificationType


class DeadLetter(Wire, frozen=True):
    """`kind` EVENT is an entry of a stream that could not be read or handled; DELIVERY is a notification that could not
    be delivered, with the notification's id. Of either kind only its own fields are set. An event's content is not
    shown, since it may have contact data in it.
    """

    id: UUID
    kind: Literal["EVENT", "DELIVERY"]
    reason: str
    error: str
    died_at: datetime
    event_id: str | None
    stream: str | None = None
    entry_id: str | None = None
    event_type: str | None = None
    appointment_id: UUID | None = None
    recipient_id: UUID | None = None
    channel: Channel | None = None
    notification_type: NotificationType | None = None
    attempts: int | None = None


class Replay(Wire, frozen=True):
    """`HANDLED`: the event has had its effect. `PENDING`: the delivery is due at once, and may fail again."""

    id: UUID
    kind: Literal["EVENT", "DELIVERY"]
    outcome: Literal["HANDLED", "PENDING"]
