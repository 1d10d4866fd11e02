from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType, field
from msgspec.structs import replace

from services.booking.time.fields import Duration, StartsAt
from services.contracts.enums import AppointmentMode, AppointmentStatus
from services.kit.schema import TEXT_PATTERN, Request, Text, Wire, form
from services.kit.text import visible

Reason = Annotated[
    str,
    Meta(min_length=1, max_length=500, pattern=rf"^(?=[\s\S]*\S){TEXT_PATTERN}", examples=["The patient called in"]),
    form(visible),
]


class AppointmentCreate(Request, frozen=True, kw_only=True, omit_defaults=True):
    """Encoded without defaults, so that a field added later does not change the fingerprints of old requests."""

    doctor_id: UUID
    starts_at: StartsAt = field(name="dateTime")
    patient_id: UUID | None = None
    type_id: UUID | None = None
    duration_minutes: Duration | UnsetType = UNSET
    notes: Text | None = None
    overbook: bool = False
    reason: Reason | None = None
    hold_id: UUID | None = None

    @property
    def fingerprinted(self) -> "AppointmentCreate":
        """Return the body that its Idempotency-Key belongs to: 30 minutes were the default before there were types."""
        return self if self.type_id or self.duration_minutes != 30 else replace(self, duration_minutes=UNSET)


class AppointmentUpdate(Request, frozen=True, kw_only=True):
    status: AppointmentStatus | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET
    starts_at: StartsAt | UnsetType = field(name="dateTime", default=UNSET)
    duration_minutes: Duration | UnsetType = UNSET
    notes: Annotated[Text, Meta(examples=["Bring the X-rays"])] | UnsetType | None = UNSET

    @property
    def moves(self) -> bool:
        return self.starts_at is not UNSET or self.duration_minutes is not UNSET


class BookedType(Wire, frozen=True, kw_only=True):
    """The type of an appointment as it was when it was booked."""

    id: UUID
    name: Annotated[str, Meta(examples=["First consultation"])]
    mode: AppointmentMode
    price: Annotated[str, Meta(examples=["99.50"])] | None


class Appointment(Wire, frozen=True, kw_only=True):
    """`localDateTime` is the wall time in `timeZone`, the doctor's zone. A name that is not available is null.

    `joinUrl` leads to the video call. Its patient and its doctor read it from 15 minutes before the start until the
    end; otherwise, and in the answer to a booking or a move, it is null.
    """

    id: UUID
    patient_id: UUID
    doctor_id: UUID
    patient_name: Annotated[str, Meta(examples=["Ben Okafor"])] | None
    doctor_name: Annotated[str, Meta(examples=["Ada Brandt"])] | None
    starts_at: datetime = field(name="dateTime")
    ends_at: Annotated[datetime, Meta(examples=["2026-12-01T10:00:00Z"])]
    duration_minutes: Annotated[int, Meta(examples=[30])]
    time_zone: Annotated[str, Meta(examples=["Europe/Berlin"])]
    local_starts_at: Annotated[datetime, Meta(extra_json_schema={"extra": {"format": "date-time-local"}})] = field(
        name="localDateTime"
    )
    status: AppointmentStatus
    notes: Annotated[str, Meta(examples=["First appointment"])] | None
    overbooked: bool
    cancellation_reason: str | None
    version: int
    created_at: datetime
    updated_at: datetime
    type: BookedType | None = None
    join_url: Annotated[str, Meta(examples=["https://meet.example.com/0f9c5e"])] | None = None

    @property
    def etag(self) -> str:
        return f'"{self.version}"'


class AppointmentState(Wire, frozen=True, kw_only=True):
    """The part of an appointment that can change."""

    status: AppointmentStatus
    starts_at: datetime = field(name="dateTime")
    duration_minutes: Annotated[int, Meta(examples=[30])]
    time_zone: Annotated[str, Meta(examples=["Europe/Berlin"])]
    notes: Annotated[str, Meta(examples=["First appointment"])] | None
    overbooked: bool
    cancellation_reason: str | None


class HistoryEntry(Wire, frozen=True, kw_only=True):
    """`actorRole` is SYSTEM and `actorId` null for a change that no user made. The first entry has no `before`."""

    version: int
    changed_at: datetime
    actor_id: UUID | None
    actor_role: Annotated[str, Meta(examples=["DOCTOR"])]
    reason: str | None
    before: AppointmentState | None
    after: AppointmentState
