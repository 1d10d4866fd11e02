from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType, field

from services.booking.time.fields import Duration, StartsAt
from services.kit.schema import Request, Wire

HoldMinutes = Annotated[int, Meta(ge=1, le=15, description="For how long the time is held", examples=[5])]


class HoldCreate(Request, frozen=True, kw_only=True, omit_defaults=True):
    """Encoded without defaults, as `AppointmentCreate` is."""

    doctor_id: UUID
    starts_at: StartsAt = field(name="dateTime")
    patient_id: UUID | None = None
    type_id: UUID | None = None
    duration_minutes: Duration | UnsetType = UNSET
    hold_minutes: HoldMinutes = 5


class Hold(Wire, frozen=True, kw_only=True):
    """A time that only this patient can book until `expiresAt`. `localDateTime` is its wall time in `timeZone`."""

    id: UUID
    patient_id: UUID
    doctor_id: UUID
    type_id: UUID | None
    starts_at: datetime = field(name="dateTime")
    ends_at: Annotated[datetime, Meta(examples=["2026-12-01T10:00:00Z"])]
    duration_minutes: Annotated[int, Meta(examples=[30])]
    time_zone: Annotated[str, Meta(examples=["Europe/Berlin"])]
    local_starts_at: Annotated[datetime, Meta(extra_json_schema={"extra": {"format": "date-time-local"}})] = field(
        name="localDateTime"
    )
    expires_at: Annotated[datetime, Meta(examples=["2026-11-30T18:05:00Z"])]
    created_at: datetime
