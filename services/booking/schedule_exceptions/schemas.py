from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, field

from services.booking.availability.schemas import End, Start
from services.kit.schema import Line, Request, Wire

ExceptionKind = Annotated[
    Literal["OFF", "EXTRA"], Meta(description="OFF is leave, EXTRA are hours in addition to the weekly ones")
]
First = Annotated[date, Meta(description="The first day, in the doctor's zone", examples=["2027-07-12"])]
Last = Annotated[date, Meta(description="The last day", examples=["2027-07-23"])]


class ExceptionCreate(Request, frozen=True, kw_only=True):
    """From `start` on the day `from` to `end` on the day `until`, in one piece.

    Without `until` it is `from`, or the day after it if `end` is not after `start`.
    """

    kind: ExceptionKind
    from_: First = field(name="from")
    until: Last | None = None
    start: Start = "00:00"
    end: End = "24:00"
    reason: Annotated[Line, Meta(description="For the doctor and admins only", examples=["Conference"])] | None = None


class ScheduleException(Wire, frozen=True, kw_only=True):
    """From `start` on the day `from` to `end` on the day `until`, as local times in the doctor's zone.

    `reason` is null for callers other than the doctor and admins.
    """

    id: UUID
    doctor_id: UUID
    kind: ExceptionKind
    from_: First = field(name="from")
    start: Start
    until: Last
    end: End
    reason: Annotated[str, Meta(examples=["Conference"])] | None
    created_at: datetime


class ScheduleExceptionChange(Wire, frozen=True, kw_only=True):
    """An exception that was added or removed."""

    revision: int
    changed_at: datetime
    actor_id: UUID
    actor_role: Annotated[str, Meta(examples=["DOCTOR"])]
    action: Literal["ADDED", "REMOVED"]
    exception_id: UUID
    kind: ExceptionKind
    from_: First = field(name="from")
    start: Start
    until: Last
    end: End
