"""Which times of a doctor can be booked: pure, for the list of free times and for the booking itself.

Instants are seconds since the epoch: comparing and adding integers takes a fraction of the time of datetimes.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache

from services.booking.availability.schedules import DAY_MINUTES, Hours, Period, Schedule
from services.kit.zones import zone

Span = tuple[int, int]  # half-open

_DAY = timedelta(days=1)
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
    spans, starts = _open(schedule, (window[0], window[1] + length))
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
    spans, starts = _open(schedule, (int(start), int(end)))
    inside = any(begin <= start and end <= until for begin, until in spans)
    return None if inside and (start in starts or not by_patient) else Rule.OUTSIDE_AVAILABILITY


def earliest_start(schedule: Schedule, now: int) -> int:
    return now + max(1, schedule.minimum_notice_minutes * 60)


def latest_start(schedule: Schedule, now: int) -> int:
    return now + schedule.horizon_days * _DAY_SECONDS


def local_day(instant: int, time_zone: str) -> date:
    return datetime.fromtimestamp(instant, zone(time_zone)).date()


def _open(schedule: Schedule, window: Span) -> tuple[list[Span], list[int]]:
    """Return when the doctor is open on the local days of `window`, and the starts that the grid has there.

    Hours that touch are one span: an appointment may begin in one and end in the next.
    """
    name, spans, starts = schedule.time_zone, list[Span](), list[int]()
    day, last = local_day(window[0], name) - _DAY, local_day(window[1], name)
    step = schedule.slot_minutes
    while day <= last:  # from the day before, whose hours may pass midnight
        for hours in _hours_of(schedule.periods, day):
            begin, end = _instant(name, day, hours.start)[0], _instant(name, day, hours.end)[0]
            if begin >= end:
                continue  # all of it is in the gap of a change of the clocks
            spans.append((begin, end))
            for minute in range(hours.start, hours.end, step):
                instant, exists = _instant(name, day, minute)
                if exists:
                    starts.append(instant)
        day += _DAY
    return _merged(spans), sorted(set(starts))


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


def _instant(name: str, day: date, minute: int) -> tuple[int, bool]:
    """Return when a minute of a local day is, and whether it exists.

    A time that the clock skips is when it skips; of two instants with one local time it is the first.
    """
    if minute > DAY_MINUTES:
        day, minute = day + _DAY, minute - DAY_MINUTES
    midnight, plain = _midnight(name, day)
    return (midnight + minute * 60, True) if plain else _from_wall(name, day, minute)


@lru_cache(maxsize=65_536)
def _midnight(name: str, day: date) -> tuple[int, bool]:
    """Return when a day begins, and whether it has 24 hours: its minutes are sums then."""
    begin, exists = _from_wall(name, day, 0)
    return begin, exists and _from_wall(name, day + _DAY, 0) == (begin + _DAY_SECONDS, True)


def _from_wall(name: str, day: date, minute: int) -> tuple[int, bool]:
    wall = datetime(day.year, day.month, day.day) + timedelta(minutes=minute)  # noqa: DTZ001
    first, second = (wall.replace(tzinfo=zone(name), fold=fold) for fold in (0, 1))
    before, after = first.utcoffset(), second.utcoffset()
    if before is None or after is None or before >= after:
        return int(first.timestamp()), True
    low, high = int(second.timestamp()), int(first.timestamp())  # the clock skips between these two
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, UTC).astimezone(zone(name)).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high, False
