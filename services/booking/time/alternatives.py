"""Free times instead of a taken one."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.booking.appointments.schemas import FreeTime

OFFERED = 3


def free_times(
    starts_at: datetime, duration: timedelta, busy: Sequence[tuple[datetime, datetime]], until: datetime
) -> list[FreeTime]:
    """The first free times from `starts_at` on; `busy` is by start, and complete up to `until`."""
    found: list[FreeTime] = []
    candidate = starts_at
    upcoming = iter([*busy, (until, until)])
    taken_from, taken_to = next(upcoming)
    while len(found) < OFFERED:
        if candidate + duration <= taken_from:
            found.append(FreeTime(date_time=candidate, ends_at=candidate + duration))
            candidate += duration
        elif taken_from == until:
            break
        else:
            candidate = max(candidate, taken_to)
            taken_from, taken_to = next(upcoming)
    return found
