"""Dead letters: what was given up, and waits for somebody to look at it."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from services.kit.schema import Wire
from services.notification.notifying.schemas import Channel, NotificationType


class DeadLetter(Wire, frozen=True):
    """`kind` EVENT is an entry of a stream that could not be read or handled; DELIVERY is a notification that could not
    be delivered, with the notification's id. Of either kind only its own fields are set. An event's content is not
    shown, since it may have contact data in it.
    """

    id: UUID
    kind: Literal["EVENT", "DELIVERY"]
    reason: Annotated[str, Meta(examples=["undecodable"])]
    error: Annotated[str, Meta(examples=["DecodeError"])]
    died_at: datetime
    event_id: Annotated[str, Meta(examples=["019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073"])] | None
    stream: Annotated[str, Meta(examples=["booking.appointments"])] | None = None
    entry_id: Annotated[str, Meta(examples=["42-0"])] | None = None
    event_type: Annotated[str, Meta(examples=["AppointmentCreated"])] | None = None
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
