"""Free times to offer instead of one that is refused."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from services.booking.availability.schedules import Schedule
from services.booking.slots.engine import first_starts
from services.booking.time.busy import busy_times
from services.booking.time.obstacles import Claim
from services.kit.postgres.database import Database

OFFERED = 3
_WITHIN = timedelta(days=14)
_BUSY_LIMIT = 500


class FreeTime(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    starts_at: datetime = msgspec.field(name="dateTime")
    ends_at: datetime


async def alternatives_to(database: Database, claim: Claim, schedule: Schedule | None, now: datetime) -> list[FreeTime]:
    """Return the next times at which both are free, of the claim's length, and that the doctor's schedule allows."""
    duration = claim.ends_at - claim.starts_at
    notice = timedelta(minutes=schedule.minimum_notice_minutes if schedule else 0)
    claim = claim._replace(starts_at=max(claim.starts_at, now + notice))
    until = claim.starts_at + _WITHIN
    busy = await busy_times(database, claim, until, _BUSY_LIMIT)
    if len(busy) == _BUSY_LIMIT:
        until = busy[-1][0]
    if schedule is None:
        return free_times(claim.starts_at, duration, busy, until)
    length = int(duration.total_seconds())
    window = int(claim.starts_at.timestamp()), int(until.timestamp()) - length + 1
    spans = [(int(starts_at.timestamp()), -int(-ends_at.timestamp() // 1)) for starts_at, ends_at in busy]
    starts = first_starts(schedule, spans, window, length, int(now.timestamp()), OFFERED)
    return [_free_time(datetime.fromtimestamp(start, UTC), duration) for start in starts]


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
            found.append(_free_time(candidate, duration))
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


def _free_time(starts_at: datetime, duration: timedelta) -> FreeTime:
    return FreeTime(starts_at=starts_at, ends_at=starts_at + duration)
