"""Free times to offer instead of a taken one."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

OFFERED = 3


class FreeTime(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    starts_at: datetime = msgspec.field(name="dateTime")
    ends_at: datetime


def free_times(
    starts_at: datetime, duration: timedelta, busy: Sequence[tuple[datetime, datetime]], until: datetime
) -> list[FreeTime]:
    """Return the first free times from `starts_at` on. `busy` is sorted by start and complete up to `until`."""
    found: list[FreeTime] = []
    candidate = starts_at
    upcoming = iter([*busy, (until, until)])
    taken_from, taken_to = next(upcoming)
    while len(found) < OFFERED:
        if candidate + duration <= taken_from:
            found.append(FreeTime(starts_at=candidate, ends_at=candidate + duration))
            candidate += duration
        elif taken_from == until:
            break
        else:
            candidate = max(candidate, _whole_minute(taken_to))
            taken_from, taken_to = next(upcoming)
    return found


def _whole_minute(instant: datetime) -> datetime:
    """Round up: a booking of before starts had to be whole minutes may end within one."""
    minute = instant.replace(second=0, microsecond=0)
    return minute if minute == instant else minute + timedelta(minutes=1)
