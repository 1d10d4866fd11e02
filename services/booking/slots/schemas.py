from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta

from services.kit.schema import Wire


class Slot(Wire, frozen=True, kw_only=True):
    """A free time. `localStart` is the start's wall time in `timeZone`, the doctor's zone.

    `typeId` is the appointment type that it was computed for, null for a doctor without types.
    """

    doctor_id: UUID
    type_id: UUID | None
    starts_at: datetime
    ends_at: Annotated[datetime, Meta(examples=["2026-12-01T10:00:00Z"])]
    local_start: Annotated[datetime, Meta(extra_json_schema={"extra": {"format": "date-time-local"}})]
    time_zone: Annotated[str, Meta(examples=["Europe/Berlin"])]


class SlotDay(Wire, frozen=True, kw_only=True):
    """A day in the doctor's zone: how many slots are free, and the start of the first one."""

    date: Annotated[date, Meta(examples=["2026-12-01"])]
    free: int
    first: datetime | None
