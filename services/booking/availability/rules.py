"""What makes a schedule of what a client sends, and back: pure."""

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from services.booking.availability.schedules import DAY_MINUTES, Hours, Period, Schedule
from services.booking.availability.schemas import (
    Availability,
    AvailabilityUpdate,
    HoursUpdate,
    PeriodUpdate,
    WeeklyHours,
    WeeklyPeriod,
)
from services.kit.errors import BadRequest, FieldError

_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
MIDNIGHT = "24:00"
_DAY = timedelta(days=1)
YEARS = range(1970, 2200)


def schedule_of(doctor_id: UUID, wanted: AvailabilityUpdate, version: int, now: datetime) -> Schedule:
    """Return the schedule that is asked for; raise `BadRequest` with the path of everything that is wrong in it."""
    errors: list[FieldError] = []
    periods = [_period(period, f"weekly[{at}]", errors) for at, period in enumerate(wanted.weekly)]
    if not errors:
        order = sorted(range(len(periods)), key=lambda at: periods[at].first or date.min)
        for earlier, later in pairwise(order):
            end, first = periods[earlier].end, periods[later].first
            if end is None or first is None or first < end:
                errors.append(FieldError(f"weekly[{later}].validFrom", f"Overlaps weekly[{earlier}]"))
        periods = [periods[at] for at in order]
    if errors:
        raise BadRequest(errors=errors)
    return Schedule(
        doctor_id=doctor_id,
        time_zone=wanted.time_zone,
        slot_minutes=wanted.slot_minutes,
        minimum_notice_minutes=wanted.minimum_notice_minutes,
        horizon_days=wanted.horizon_days,
        auto_confirm=wanted.auto_confirm,
        cancellation_cutoff_minutes=wanted.cancellation_cutoff_minutes,
        open_appointments_per_patient=wanted.open_appointments_per_patient,
        public_holidays=wanted.public_holidays,
        periods=tuple(periods),
        version=version,
        updated_at=now,
    )


def availability_of(schedule: Schedule) -> Availability:
    return Availability(
        doctor_id=schedule.doctor_id,
        time_zone=schedule.time_zone,
        slot_minutes=schedule.slot_minutes,
        minimum_notice_minutes=schedule.minimum_notice_minutes,
        horizon_days=schedule.horizon_days,
        auto_confirm=schedule.auto_confirm,
        cancellation_cutoff_minutes=schedule.cancellation_cutoff_minutes,
        open_appointments_per_patient=schedule.open_appointments_per_patient,
        public_holidays=schedule.public_holidays,
        weekly=[
            WeeklyPeriod(
                valid_from=period.first,
                valid_until=period.end and period.end - _DAY,
                cycle_weeks=period.cycle_weeks,
                hours=[
                    WeeklyHours(week=week, weekday=weekday, start=clock(start), end=clock(end))
                    for week, weekday, start, end in period.hours
                ],
            )
            for period in schedule.periods
        ],
        version=schedule.version,
        updated_at=schedule.updated_at,
    )


def clock(minute: int) -> str:
    minute -= DAY_MINUTES if minute > DAY_MINUTES else 0
    return f"{minute // 60:02}:{minute % 60:02}"


def _period(wanted: PeriodUpdate, path: str, errors: list[FieldError]) -> Period:
    first, last = wanted.valid_from, wanted.valid_until
    for name, day in (("validFrom", first), ("validUntil", last)):
        if day and day.year not in YEARS:
            errors.append(FieldError(f"{path}.{name}", f"Expected a year from {YEARS[0]} to {YEARS[-1]}"))
    if first and last and last < first:
        errors.append(FieldError(f"{path}.validUntil", "Before validFrom"))
    if wanted.cycle_weeks > 1 and first is None:
        errors.append(FieldError(f"{path}.validFrom", "Required with cycleWeeks: its week is week 0 of the cycle"))
    found = [_hours(hours, f"{path}.hours[{at}]", wanted.cycle_weeks, errors) for at, hours in enumerate(wanted.hours)]
    hours = [hours for hours in found if hours]
    if len(hours) == len(found):
        _refuse_overlaps(hours, path, wanted.cycle_weeks, errors)
    end = last + _DAY if last and last.year in YEARS else None
    return Period(first, end, wanted.cycle_weeks, tuple(sorted(hours)))


def _hours(wanted: HoursUpdate, path: str, cycle_weeks: int, errors: list[FieldError]) -> Hours | None:
    start, end = minute_of(wanted.start), DAY_MINUTES if wanted.end == MIDNIGHT else minute_of(wanted.end)
    wrong: list[FieldError] = []
    if start is None:
        wrong.append(FieldError(f"{path}.start", "Expected a time from 00:00 to 23:59, such as 09:30"))
    if end is None:
        wrong.append(FieldError(f"{path}.end", "Expected a time from 00:00 to 24:00, such as 17:30"))
    if wanted.week >= cycle_weeks:
        wrong.append(FieldError(f"{path}.week", "Must be less than cycleWeeks"))
    if start is not None and start == end:
        wrong.append(FieldError(f"{path}.end", "The same as start: the hours are empty"))
    errors += wrong
    if wrong or start is None or end is None:
        return None
    return Hours(wanted.week, wanted.weekday, start, end if end > start else end + DAY_MINUTES)


def minute_of(text: str) -> int | None:
    found = _TIME.fullmatch(text)
    return int(found[1]) * 60 + int(found[2]) if found else None


def _refuse_overlaps(hours: Sequence[Hours], path: str, cycle_weeks: int, errors: list[FieldError]) -> None:
    """Compare in minutes of the whole cycle, because hours that pass midnight may reach into the next day's."""
    cycle = cycle_weeks * 7 * DAY_MINUTES
    spans = sorted(
        ((week * 7 + weekday - 1) * DAY_MINUTES + start, end - start, at)
        for at, (week, weekday, start, end) in enumerate(hours)
    )
    if len(spans) < 2:
        return
    begin, length, at = spans[0]
    for (start, minutes, one), (following, _, other) in pairwise([*spans, (begin + cycle, length, at)]):
        if start + minutes > following:
            later, earlier = max(one, other), min(one, other)
            errors.append(FieldError(f"{path}.hours[{later}]", f"Overlaps {path}.hours[{earlier}]"))
