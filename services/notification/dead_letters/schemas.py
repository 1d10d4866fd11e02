"""Dead letters: events and deliveries that failed for good and wait for an admin."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from services.kit.schema import Wire
from services.notification.notifying.schemas import Channel, NotificationType


class DeadLetter(Wire, frozen=True):
    """`EVENT` is an entry of a stream that could not be decoded or handled; `DELIVERY` is a notification that could not
    be delivered, under the notification's id. Each kind sets only its own fields. The content of an event is not
    shown, because it may contain contact data.
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
    """`HANDLED`: the event took effect. `PENDING`: the delivery is due at once and may fail again."""

    id: UUID
    kind: Literal["EVENT", "DELIVERY"]
    outcome: Literal["HANDLED", "PENDING"]
