"""Free times found the slow and obvious way: minute by minute, by nothing but the local time of each."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache

from services.booking.availability.public_holidays import public_holidays
from services.booking.availability.schedules import Schedule
from services.kit.zones import zone

MINUTE = 60
_AROUND = timedelta(days=5)


@cache
def local_minutes(time_zone: str, around: date) -> list[tuple[int, datetime]]:
    """Return the minutes of the days around a date, each with its local time."""
    start = int((datetime(around.year, around.month, around.day, tzinfo=UTC) - _AROUND).timestamp())
    instants = range(start, start + int(2 * _AROUND.total_seconds()), MINUTE)
    return [(at, datetime.fromtimestamp(at, zone(time_zone)).replace(tzinfo=None, fold=0)) for at in instants]


@cache
def first_with(time_zone: str, around: date, wall: datetime, *, exactly: bool) -> int | None:
    """Return the first minute whose local time is `wall`, or not before `wall`."""
    for at, local in local_minutes(time_zone, around):
        if local == wall or (local > wall and not exactly):
            return at
    return None


def blocks(schedule: Schedule, around: date) -> Iterator[tuple[datetime, datetime]]:
    """Yield the local start and end of the hours on the days around a date."""
    for offset in range(-3, 3):
        day = around + timedelta(days=offset)
        midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001
        for period in schedule.periods:
            if (period.first and day < period.first) or (period.end and day >= period.end):
                continue
            first = period.first or day
            weeks = ((day - timedelta(days=day.weekday())) - (first - timedelta(days=first.weekday()))).days // 7
            for hours in period.hours:
                if hours.weekday == day.weekday() + 1 and hours.week == weeks % period.cycle_weeks:
                    yield midnight + timedelta(minutes=hours.start), midnight + timedelta(minutes=hours.end)


def is_holiday(schedule: Schedule, local: datetime) -> bool:
    region = schedule.public_holidays
    return region is not None and local.date() in public_holidays(region, local.year)


def open_and_grid(schedule: Schedule, around: date) -> tuple[set[int], set[int]]:
    """Return the minutes at which the doctor is open, and those at which slots begin."""
    zone_name, open_minutes, grid = schedule.time_zone, set[int](), set[int]()
    local_times = dict(local_minutes(zone_name, around))
    weekly = [(start, end, True) for start, end in blocks(schedule, around)]
    extra = [(span.start, span.end, False) for span in schedule.exceptions.extra]
    for start, end, closed_on_holidays in weekly + extra:
        opens = first_with(zone_name, around, start, exactly=False)
        closes = first_with(zone_name, around, end, exactly=False)
        # Extra hours may reach beyond the days around, which are all that is compared.
        opens = min(local_times) if opens is None or start < local_times[min(local_times)] else opens
        closes = max(local_times) if closes is None else closes
        for minute in range(opens, closes, MINUTE):
            if not (closed_on_holidays and is_holiday(schedule, local_times[minute])):
                open_minutes.add(minute)
        while start < end:
            at = first_with(zone_name, around, start, exactly=True)
            if at is not None and not (closed_on_holidays and is_holiday(schedule, start)):
                grid.add(at)
            start += timedelta(minutes=schedule.slot_minutes)
    for leave in schedule.exceptions.off:
        begun = [minute for minute, local in local_times.items() if local >= leave.start]
        going = [minute for minute, local in local_times.items() if local < leave.end]
        if begun and going:
            open_minutes -= set(range(begun[0], going[-1] + MINUTE, MINUTE))
    return open_minutes, grid


def free_starts(
    schedule: Schedule,
    busy: Sequence[tuple[int, int]],
    window: tuple[int, int],
    length: int,
    now: int,
    around: date,
    buffers: tuple[int, int] = (0, 0),
) -> list[int]:
    """Return what `engine.free_starts` is to return. All of it happens within two days of `around`.

    The appointment itself must be within the hours, and the appointment with its buffers must meet nothing busy.
    """
    open_minutes, grid = open_and_grid(schedule, around)
    taken = {minute for begin, end in busy for minute in range(begin, end, MINUTE)}
    notice, horizon = schedule.minimum_notice_minutes * MINUTE, schedule.horizon_days * 86_400
    return [
        at
        for at in sorted(grid)
        if window[0] <= at < window[1]
        and at > now
        and now + notice <= at <= now + horizon
        and all(minute in open_minutes for minute in range(at, at + length, MINUTE))
        and all(minute not in taken for minute in range(at - buffers[0], at + length + buffers[1], MINUTE))
    ]
