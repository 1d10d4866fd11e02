"""Schedules in short, and their free starts."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.booking.availability.schedules import Exceptions, Hours, Period, Schedule, WallSpan
from services.booking.slots import engine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400


def schedule(*periods: Period, zone: str = "UTC", slot: int = 30, notice: int = 0, horizon: int = 3650) -> Schedule:
    return Schedule(UUID(int=1), zone, slot, notice, horizon, periods, False, 0, None, 1, EPOCH)


def weekly(*hours: tuple[int, str, str], zone: str = "UTC", slot: int = 30, **more: Any) -> Schedule:
    def minute(text: str) -> int:
        return int(text[:2]) * 60 + int(text[3:])

    each = (Hours(0, weekday, minute(start), minute(end)) for weekday, start, end in hours)
    return schedule(Period(None, None, 1, tuple(sorted(each))), zone=zone, slot=slot, **more)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def starts(of: Schedule, first: str, last: str, length: int, *busy: tuple[str, str], now: str = "") -> list[str]:
    """Return the free starts from the beginning of one UTC day to the end of another, with a day around them."""
    window = at(f"{first}T00:00Z") - DAY, at(f"{last}T00:00Z") + 2 * DAY
    taken = sorted((at(start), at(end)) for start, end in busy)
    found = engine.free_starts(of, taken, window, length * 60, at(f"{now or first}T00:00Z") - DAY)
    return [datetime.fromtimestamp(start, UTC).strftime("%m-%d %H:%MZ") for start in found]


def wall(start: str, end: str) -> WallSpan:
    return WallSpan(datetime.fromisoformat(start), datetime.fromisoformat(end))


def off(*spans: tuple[str, str]) -> Exceptions:
    return Exceptions(off=tuple(wall(*span) for span in spans))


def extra(*spans: tuple[str, str]) -> Exceptions:
    return Exceptions(extra=tuple(wall(*span) for span in spans))
