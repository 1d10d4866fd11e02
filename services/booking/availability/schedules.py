"""A doctor's schedule as the computation of free times needs it: pure values."""

from datetime import date, datetime
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


class Schedule(NamedTuple):
    """`periods` are sorted and do not overlap."""

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
