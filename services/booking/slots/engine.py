"""Which times of a doctor can be booked: pure, for the list of free times and for the booking itself.

Instants are seconds since the epoch: comparing and adding integers takes a fraction of the time of datetimes.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum

from services.booking.availability.public_holidays import public_holidays
from services.booking.availability.schedules import DAY_MINUTES, Hours, Period, Schedule, WallSpan
from services.booking.slots.wall_times import Span, instant, leave_span, local_day

Piece = tuple[date, int, int, int]  # a day, its minutes from one until before another, and one that the grid has

_DAY, _MINUTE = timedelta(days=1), timedelta(minutes=1)
_DAY_SECONDS = 86_400
_WEEK_SECONDS = 7 * _DAY_SECONDS


class Rule(StrEnum):
    """A rule of the schedule that a time breaks; the code of its error."""

    TOO_SOON = "too_soon"
    TOO_FAR = "too_far"
    OUTSIDE_AVAILABILITY = "outside_availability"


def free_starts(schedule: Schedule, busy: Sequence[Span], window: Span, length: int, now: int) -> list[int]:
    """Return the starts in `window` of appointments of `length` seconds that a patient can book, in order.

    `busy` is sorted and need not be disjoint.
    """
    window = max(window[0], earliest_start(schedule, now)), min(window[1], latest_start(schedule, now) + 1)
    if window[0] >= window[1]:
        return []
    with_last = window[0], window[1] + length
    spans, starts = _open(schedule, with_last), _grid(schedule, with_last)
    found, span, obstacle, blocked_until = [], 0, 0, 0
    for start in starts:
        end = start + length
        if not window[0] <= start < window[1]:
            continue
        while span < len(spans) and spans[span][1] <= start:
            span += 1
        while obstacle < len(busy) and busy[obstacle][0] < end:
            blocked_until = max(blocked_until, busy[obstacle][1])
            obstacle += 1
        if blocked_until <= start and span < len(spans) and spans[span][0] <= start and end <= spans[span][1]:
            found.append(start)
    return found


def first_starts(
    schedule: Schedule, busy: Sequence[Span], window: Span, length: int, now: int, count: int
) -> list[int]:
    """Return the first `count` of `free_starts`, at the cost of what is looked at rather than of the whole window."""
    found: list[int] = []
    first, end = max(window[0], now), window[1]
    while first < end and len(found) < count:
        found += free_starts(schedule, busy, (first, min(first + _WEEK_SECONDS, end)), length, now)
        first += _WEEK_SECONDS
    return found[:count]


def widened(busy: Sequence[Span], before: int, after: int) -> Sequence[Span]:
    """Return what `free_starts` is to take as busy for an appointment with buffers of so many seconds.

    Other time is in the way of the buffer after the appointment if, begun that much earlier, it would be in the way of
    the appointment itself; the buffer before likewise. The hours need not hold the buffers.
    """
    if not before and not after:
        return busy
    return [(begin - after, end + before) for begin, end in busy]


def broken_rule(schedule: Schedule, start: float, end: float, now: int, *, by_patient: bool) -> Rule | None:
    """Return the rule that an appointment would break, or None.

    Notice, horizon and the grid bind patients; the hours bind everyone. No start with a fraction is on the grid.
    """
    if by_patient and start < earliest_start(schedule, now):
        return Rule.TOO_SOON
    if by_patient and start > latest_start(schedule, now):
        return Rule.TOO_FAR
    window = int(start), int(end)
    inside = _within(_open(schedule, window), start, end)
    on_grid = not (by_patient and schedule.has_grid) or start in _grid(schedule, window)
    return None if inside and on_grid else Rule.OUTSIDE_AVAILABILITY


def is_open(schedule: Schedule, span: Span) -> bool:
    """Tell whether the doctor is open for all of `span`."""
    return _within(_open(schedule, span), *span)


def earliest_start(schedule: Schedule, now: int) -> int:
    return now + max(1, schedule.minimum_notice_minutes * 60)


def latest_start(schedule: Schedule, now: int) -> int:
    return now + schedule.horizon_days * _DAY_SECONDS


def _open(schedule: Schedule, window: Span) -> list[Span]:
    """Return when the doctor is open on the local days of `window`.

    Hours that touch are one span: an appointment may begin in one and end in the next.
    """
    name, (first, last) = schedule.time_zone, _days_of(schedule, window)
    spans = (
        (instant(name, day, start)[0], instant(name, day, end)[0])
        for day, start, end, _ in _pieces(schedule, first, last)
    )
    leave = [leave_span(name, span) for span in _on_days(schedule.exceptions.off, first, last)]
    return _without(_merged([span for span in spans if span[0] < span[1]]), leave)


def _grid(schedule: Schedule, window: Span) -> list[int]:
    """Return the starts that the grid has in hours on the local days of `window`. A leave leaves the grid alone."""
    name, step, starts = schedule.time_zone, schedule.slot_minutes, set[int]()
    for day, start, end, anchor in _pieces(schedule, *_days_of(schedule, window)):
        for minute in range(start + (anchor - start) % step, end, step):
            at, exists = instant(name, day, minute)
            if exists:
                starts.add(at)
    return sorted(starts)


def _days_of(schedule: Schedule, window: Span) -> tuple[date, date]:
    """Return the first and the last day whose hours may be in `window`: those of the day before may pass midnight."""
    return local_day(window[0], schedule.time_zone) - _DAY, local_day(window[1], schedule.time_zone)


def _pieces(schedule: Schedule, first: date, last: date) -> Iterator[Piece]:
    """Yield the hours that begin on some days: the weekly ones without what is on a public holiday, and extra ones."""
    extra = _on_days(schedule.exceptions.extra, first, last)
    day = first
    while day <= last:
        for hours in _hours_of(schedule.periods, day):
            yield from _without_holidays(schedule.public_holidays, day, hours)
        for span in extra:
            start, end = (_minutes_from(day, wall) for wall in span)
            if start < DAY_MINUTES and end > 0:
                yield day, max(start, 0), min(end, DAY_MINUTES), start
        day += _DAY


def _without_holidays(region: str | None, day: date, hours: Hours) -> Iterator[Piece]:
    if region is None:
        yield day, hours.start, hours.end, hours.start
        return
    for begin, on in ((0, day), (DAY_MINUTES, day + _DAY)):
        start, end = max(hours.start, begin), min(hours.end, begin + DAY_MINUTES)
        if start < end and on not in public_holidays(region, on.year):
            yield day, start, end, hours.start


def _minutes_from(day: date, wall: datetime) -> int:
    return (wall - datetime(day.year, day.month, day.day)) // _MINUTE  # noqa: DTZ001


def _within(spans: Sequence[Span], start: float, end: float) -> bool:
    return any(begin <= start and end <= until for begin, until in spans)


def _on_days(spans: Sequence[WallSpan], first: date, last: date) -> list[WallSpan]:
    return [span for span in spans if span.start.date() <= last and first <= span.end.date()]


def _hours_of(periods: Sequence[Period], day: date) -> Iterator[Hours]:
    weekday = day.isoweekday()
    for period in periods:
        if (period.first is None or period.first <= day) and (period.end is None or day < period.end):
            week = 0
            if period.first is not None:
                monday = period.first - _DAY * period.first.weekday()
                week = (day - monday).days // 7 % period.cycle_weeks
            yield from (hours for hours in period.hours if (hours.week, hours.weekday) == (week, weekday))


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged


def _without(spans: Sequence[Span], taken: Sequence[Span]) -> list[Span]:
    """Return `spans`, sorted and disjoint, without `taken`."""
    left = list(spans)
    for begin, end in taken:
        left = [
            part
            for start, until in left
            for part in ((start, min(until, begin)), (max(start, end), until))
            if part[0] < part[1]
        ]
    return left
