"""Local times as instants, which are seconds since the epoch, also when the clocks change: pure."""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Literal

from services.booking.availability.schedules import DAY_MINUTES, WallSpan
from services.kit.zones import zone

Span = tuple[int, int]  # half-open

_DAY = timedelta(days=1)
_DAY_SECONDS = 86_400


def local_day(instant: int, time_zone: str) -> date:
    return datetime.fromtimestamp(instant, zone(time_zone)).date()


def leave_span(time_zone: str, leave: WallSpan) -> Span:
    """Return the instants of a leave: from the first that is not before its start, up to the last before its end.

    So a time that comes twice belongs to the leave both times.
    """
    (first, start), (last, end) = map(_day_and_minute, leave)
    return instant(time_zone, first, start)[0], _end_of_leave(time_zone, last, end)


def _day_and_minute(wall: datetime) -> tuple[date, int]:
    return wall.date(), wall.hour * 60 + wall.minute


def instant(name: str, day: date, minute: int) -> tuple[int, bool]:
    """Return when a minute of a local day is, and whether it exists.

    A time that the clock skips is when it skips; of two instants with one local time it is the first.
    """
    if minute > DAY_MINUTES:
        day, minute = day + _DAY, minute - DAY_MINUTES
    midnight, plain = _midnight(name, day)
    return (midnight + minute * 60, True) if plain else _from_wall(name, day, minute)


def _end_of_leave(name: str, day: date, minute: int) -> int:
    midnight, plain = _midnight(name, day)
    if plain and minute > 0:
        return midnight + minute * 60
    last, exists = _from_wall(name, day, minute - 1, fold=1)  # the last minute of the leave
    return last + 60 if exists else last


@lru_cache(maxsize=65_536)
def _midnight(name: str, day: date) -> tuple[int, bool]:
    """Return when a day begins, and whether it has 24 hours: its minutes are sums then."""
    begin, exists = _from_wall(name, day, 0)
    return begin, exists and _from_wall(name, day + _DAY, 0) == (begin + _DAY_SECONDS, True)


def _from_wall(name: str, day: date, minute: int, *, fold: Literal[0, 1] = 0) -> tuple[int, bool]:
    """Return as `instant` does, or with `fold=1` the second of two instants with one local time."""
    wall = datetime(day.year, day.month, day.day) + timedelta(minutes=minute)  # noqa: DTZ001
    first, second = (wall.replace(tzinfo=zone(name), fold=fold) for fold in (0, 1))
    before, after = first.utcoffset(), second.utcoffset()
    if before is None or after is None or before >= after:
        return int((second if fold else first).timestamp()), True
    low, high = int(second.timestamp()), int(first.timestamp())  # the clock skips between these two
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, UTC).astimezone(zone(name)).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high, False
