"""What the services tell each other.

A Struct here is a promise between writers and readers of different versions: fields are only ever added, each with a
default, and a reader ignores those it does not know. The golden files in tests/contracts keep watch over it.
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
    """The class name is the wire's `type`, so that renaming a class would break every event already written."""

    @property
    def type(self) -> str:
        return type(self).__name__


class UserState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All that a projection of users holds: any one event about a user is enough to bring it up to date."""

    id: UUID
    full_name: str
    role: Role
    status: UserStatus
    time_zone: str
    locale: str
    email: str
    phone: str | None = None
    speciality: str | None = None
    version: int
    erased: bool = False


class UserChange(Event, frozen=True, kw_only=True):
    user: UserState


class UserRegistered(UserChange, frozen=True): ...


class UserUpdated(UserChange, frozen=True): ...


class UserApproved(UserChange, frozen=True): ...


class UserSuspended(UserChange, frozen=True, kw_only=True):
    """`on_conflict` is what becomes of the visits that a suspended doctor still has."""

    on_conflict: Literal["keep", "cancel"]


class UserErased(UserChange, frozen=True):
    """`user` names nobody any more. Readers forget the name, what was typed about a patient, and visits to come."""


class SessionRevoked(Event, frozen=True, kw_only=True):
    """A login was ended before its time. After `expires_at` none of its access tokens is valid any more."""

    session_id: UUID
    user_id: UUID
    expires_at: Instant


class MailRequested(Event, frozen=True, kw_only=True):
    """Somebody is to get a mail with a secret in it. Who and what is asked for at auth, when it is sent.

    `kind` is None in events of before it was told.
    """

    mail_id: UUID
    kind: MailKind | None = None


class AppointmentChange(Event, frozen=True, kw_only=True):
    """Ids, times, status and version. No name and no note travels: a reader that needs one looks it up by id."""

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
    """Confirmed, completed, not attended, corrected, or noted upon: `status` is what it is now."""


class AppointmentRescheduled(AppointmentChange, frozen=True, kw_only=True):
    previous_starts_at: Instant


class AppointmentCancelled(AppointmentChange, frozen=True, kw_only=True):
    """`reason_code` is one of booking's own words, such as `unanswered`, and absent when a person cancelled."""

    reason_code: str | None = None

    def __post_init__(self) -> None:
        # What a person typed as a reason may say anything about a patient, and must not leave booking.
        if self.reason_code is not None and not re.fullmatch("[a-z][a-z_]{0,39}", self.reason_code):
            raise ValueError("reason_code is a code, never free text")


UserEvent = UserRegistered | UserUpdated | UserApproved | UserSuspended | UserErased | SessionRevoked | MailRequested
AppointmentEvent = AppointmentCreated | AppointmentUpdated | AppointmentRescheduled | AppointmentCancelled


class UnknownEventType(ValueError):
    """Well-formed, but of a type that this version does not know: from a newer writer, or not meant for this stream."""


def encode(event: Event) -> bytes:
    return _encoder.encode(event)


def decode_user_event(payload: bytes | str) -> UserEvent:
    """Raises `UnknownEventType`, or `msgspec.DecodeError` for whatever else is wrong with it."""
    return _decode(_user_event, UserEvent, payload)


def decode_appointment_event(payload: bytes | str) -> AppointmentEvent:
    """Raises `UnknownEventType`, or `msgspec.DecodeError` for whatever else is wrong with it."""
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
