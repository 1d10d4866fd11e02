"""The events that services exchange through the streams.

Each Struct is a promise between writers and readers of different versions: fields are only added, always with a
default, and a reader ignores fields that it does not know. The golden files in tests/contracts check this.
"""

import re
from datetime import datetime
from typing import Annotated, Literal, TypeVar, get_args
from uuid import UUID

import msgspec
from msgspec import Meta

from services.contracts.enums import AppointmentStatus, MailKind, Role, UserStatus

E = TypeVar("E")
Instant = Annotated[datetime, Meta(tz=True)]


class Event(msgspec.Struct, frozen=True, kw_only=True, rename="camel", tag_field="type", tag=True):
    """Base of all events. The class name is the `type` on the wire: renaming a class breaks events already written."""

    @property
    def type(self) -> str:
        return type(self).__name__


class UserState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The whole state that projections of users keep, so that the latest event about a user is enough.

    A user who never chose a zone has UTC as `time_zone`, for readers that do not know `time_zone_chosen`.
    """

    id: UUID
    full_name: str
    role: Role
    status: UserStatus
    time_zone: str
    locale: str
    email: str
    # Not written any more: no projection reads them.
    phone: str | None = None
    speciality: str | None = None
    version: int
    erased: bool = False
    email_verified: bool = False
    time_zone_chosen: bool = True


class UserChange(Event, frozen=True, kw_only=True):
    user: UserState


class UserRegistered(UserChange, frozen=True): ...


class UserUpdated(UserChange, frozen=True): ...


class UserApproved(UserChange, frozen=True): ...


class UserSuspended(UserChange, frozen=True, kw_only=True):
    """`on_conflict` says what happens to the doctor's upcoming appointments."""

    on_conflict: Literal["keep", "cancel"]


class UserErased(UserChange, frozen=True):
    """The user's personal data was erased; `user` holds placeholders.

    Readers erase the name and every free text about the patient, and cancel upcoming appointments.
    """


class SessionRevoked(Event, frozen=True, kw_only=True):
    """A session ended early. Its access tokens must be refused until `expires_at`, when the last of them expires."""

    session_id: UUID
    user_id: UUID
    expires_at: Instant


class MailRequested(Event, frozen=True, kw_only=True):
    """Ask notification to send a mail that contains a secret.

    The secret never travels in an event: notification fetches the mail from auth just before it sends it. `kind` is
    None in events that were written before the field existed.
    """

    mail_id: UUID
    kind: MailKind | None = None


class AppointmentChange(Event, frozen=True, kw_only=True):
    """Base of appointment events. They carry no names and no notes: a reader that needs a name looks it up by id."""

    appointment_id: UUID
    patient_id: UUID
    doctor_id: UUID
    starts_at: Instant
    ends_at: Instant
    time_zone: str
    status: AppointmentStatus
    version: int
    actor_id: UUID | None = None


class AppointmentCreated(AppointmentChange, frozen=True): ...


class AppointmentUpdated(AppointmentChange, frozen=True):
    """The appointment was confirmed, completed, missed, corrected or annotated; `status` is the new status."""


class AppointmentRescheduled(AppointmentChange, frozen=True, kw_only=True):
    previous_starts_at: Instant


class AppointmentCancelled(AppointmentChange, frozen=True, kw_only=True):
    """`reason_code` is one of booking's codes, such as `unanswered`; None when a person cancelled."""

    reason_code: str | None = None

    def __post_init__(self) -> None:
        # A reason that a person typed may contain anything about the patient and must not leave booking.
        if self.reason_code is not None and not re.fullmatch("[a-z][a-z_]{0,39}", self.reason_code):
            raise ValueError("reason_code is a code, never free text")


UserEvent = UserRegistered | UserUpdated | UserApproved | UserSuspended | UserErased | SessionRevoked | MailRequested
AppointmentEvent = AppointmentCreated | AppointmentUpdated | AppointmentRescheduled | AppointmentCancelled


class UnknownEventType(ValueError):
    """A well-formed event of a type that this stream does not have, or that a newer writer added."""


def encode(event: Event) -> bytes:
    return _encoder.encode(event)


def decode_user_event(payload: bytes | str) -> UserEvent:
    """Raise `UnknownEventType`, or `msgspec.DecodeError` for any other fault of the payload."""
    return _decode(_user_event, UserEvent, payload)


def decode_appointment_event(payload: bytes | str) -> AppointmentEvent:
    """Raise `UnknownEventType`, or `msgspec.DecodeError` for any other fault of the payload."""
    return _decode(_appointment_event, AppointmentEvent, payload)


class _Tag(msgspec.Struct):
    type: str


_encoder = msgspec.json.Encoder()
_user_event: msgspec.json.Decoder[UserEvent] = msgspec.json.Decoder(UserEvent)
_appointment_event: msgspec.json.Decoder[AppointmentEvent] = msgspec.json.Decoder(AppointmentEvent)


def _decode(decoder: msgspec.json.Decoder[E], union: object, payload: bytes | str) -> E:
    try:
        return decoder.decode(payload)
    except msgspec.ValidationError:
        name = msgspec.json.decode(payload, type=_Tag).type
        if name not in {member.__name__ for member in get_args(union)}:
            raise UnknownEventType(f"No event of this stream is called {name[:80]!r}") from None
        raise
