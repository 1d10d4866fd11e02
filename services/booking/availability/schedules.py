"""A doctor's schedule as the computation of free times needs it: pure values."""

from datetime import UTC, date, datetime
from typing import NamedTuple
from uuid import UUID

DAY_MINUTES = 1440


class Hours(NamedTuple):
    """Minutes of the local day; an end after 1440 is on the next day. Monday is the first weekday."""

    week: int
    weekday: int
    start: int
    end: int


class Period(NamedTuple):
    """What is valid from `first` until before `end`, where None is no limit. `hours` are sorted."""

    first: date | None
    end: date | None
    cycle_weeks: int
    hours: tuple[Hours, ...]


class WallSpan(NamedTuple):
    """From one local time until before another."""

    start: datetime
    end: datetime


class Exceptions(NamedTuple):
    """What a doctor's calendar has besides the weekly hours, each sorted by start. Those that are over may lack."""

    off: tuple[WallSpan, ...] = ()
    extra: tuple[WallSpan, ...] = ()


class Schedule(NamedTuple):
    """When a doctor is open: in the weekly hours, except on public holidays, and in extra hours, never in leave.

    `periods` are sorted and do not overlap. Without a grid patients may ask for any start.
    """

    doctor_id: UUID
    time_zone: str
    slot_minutes: int
    minimum_notice_minutes: int
    horizon_days: int
    periods: tuple[Period, ...]
    auto_confirm: bool
    cancellation_cutoff_minutes: int
    open_appointments_per_patient: int | None
    version: int
    updated_at: datetime
    public_holidays: str | None = None
    exceptions: Exceptions = Exceptions()
    has_grid: bool = True


def always_open(doctor_id: UUID, time_zone: str) -> Schedule:
    """Return what stands for the schedule of a doctor who has not set any: any future time but leave can be booked."""
    return Schedule(
        doctor_id=doctor_id,
        time_zone=time_zone,
        slot_minutes=30,
        minimum_notice_minutes=0,
        horizon_days=_NO_HORIZON_DAYS,
        periods=_ALWAYS,
        auto_confirm=False,
        cancellation_cutoff_minutes=0,
        open_appointments_per_patient=None,
        version=0,
        updated_at=_EPOCH,
        has_grid=False,
    )


_ALWAYS = (Period(None, None, 1, tuple(Hours(0, weekday, 0, DAY_MINUTES) for weekday in range(1, 8))),)
_NO_HORIZON_DAYS = 3660  # more than the ten years that any appointment is bound to
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
