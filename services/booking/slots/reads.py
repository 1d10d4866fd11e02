from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from services.booking.availability.schedules import DAY_MINUTES, Hours, Period, Schedule
from services.booking.availability.versions import ScheduleVersions
from services.booking.errors import DoctorNotFound, DoctorUnavailable
from services.booking.models.appointments import OCCUPIES_TIME, appointments
from services.booking.models.schedules import schedules
from services.booking.slots.engine import Span, first_starts, free_starts, local_day
from services.booking.slots.schemas import Slot, SlotDay
from services.booking.time.obstacles import (
    APPOINTMENT_ID,
    DOCTOR_ID,
    DURING,
    EXPIRED_HOLD,
    NOW,
    Claim,
    busy_times,
    doctor,
)
from services.contracts.enums import Role, UserStatus
from services.kit.auth import Principal
from services.kit.errors import NotFound
from services.kit.postgres.database import Database, Statement
from services.kit.zones import zone

_MOST_BUSY_TIMES = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALWAYS = (Period(None, None, 1, tuple(Hours(0, weekday, 0, DAY_MINUTES) for weekday in range(1, 8))),)


class Calendar(NamedTuple):
    """What the free times of a doctor follow from, as of one moment. `busy` is sorted."""

    schedule: Schedule
    busy: Sequence[Span]
    now: int


class Moving(NamedTuple):
    """An appointment that is to be moved: its own time is free for it, and its patient's other times are not."""

    appointment_id: UUID
    doctor_id: UUID
    patient_id: UUID


class SlotReads:
    def __init__(self, database: Database, versions: ScheduleVersions) -> None:
        self._database, self._versions = database, versions

    async def to_move(self, caller: Principal, appointment_id: UUID) -> Moving:
        """Return the appointment, if it is the caller's, whose own time is free for its move."""
        row = await self._database.fetchrow(PARTIES, appointment_id=appointment_id)
        if row is None or (caller.role != Role.ADMIN and caller.id not in row.values()):
            raise NotFound
        return Moving(appointment_id, *row)

    async def slots(
        self, doctor_id: UUID, starts_at: datetime, ends_at: datetime, minutes: int, limit: int, moving: Moving | None
    ) -> list[Slot]:
        """Return the first free times between two instants."""
        schedule, busy, now = await self._calendar(doctor_id, starts_at, ends_at, minutes, moving)
        window = _seconds(starts_at), _seconds(ends_at)
        starts = first_starts(schedule, busy, window, minutes * 60, now, limit)
        return [_slot(schedule, start, minutes) for start in starts]

    async def days(
        self,
        doctor_id: UUID,
        starts_at: datetime,
        ends_at: datetime,
        minutes: int,
        after: date | None,
        moving: Moving | None,
    ) -> list[SlotDay]:
        """Return each day after `after` that has a part between two instants."""
        schedule, busy, now = await self._calendar(doctor_id, starts_at, ends_at, minutes, moving)
        window = _seconds(starts_at), _seconds(ends_at)
        starts = free_starts(schedule, busy, window, minutes * 60, now)
        first: dict[date, int] = {}
        free = Counter[date]()
        for start in starts:
            day = local_day(start, schedule.time_zone)
            first.setdefault(day, start)
            free[day] += 1
        day, last = (local_day(at, schedule.time_zone) for at in (window[0], window[1] - 1))
        days = [day + timedelta(days=number) for number in range((last - day).days + 1)]
        return [
            SlotDay(date=day, free=free[day], first=_instant(first[day]) if day in first else None)
            for day in days
            if after is None or day > after
        ]

    async def _calendar(
        self, doctor_id: UUID, starts_at: datetime, ends_at: datetime, minutes: int, moving: Moving | None
    ) -> Calendar:
        ends_at += timedelta(minutes=minutes)
        values = {"doctor_id": doctor_id, "starts_at": starts_at, "ends_at": ends_at}
        async with self._database.connection() as connection:
            row = await CALENDAR.fetchrow(connection, **values)
            if row["role"] != Role.DOCTOR or row["status"] == UserStatus.PENDING:
                raise DoctorNotFound
            if row["status"] == UserStatus.SUSPENDED:
                raise DoctorUnavailable
            schedule = await self._versions.get(connection, doctor_id, row["version"], row["updated_at"])
        # Without a schedule any future time can be booked.
        schedule = schedule or Schedule(doctor_id, row["time_zone"], 30, 0, 3650, _ALWAYS, False, 0, None, 0, _EPOCH)
        if moving is None:
            busy = list(zip(row["busy_from"] or (), row["busy_until"] or (), strict=True))
        else:
            claim = Claim(*moving, starts_at, ends_at)
            found = await busy_times(self._database, claim, ends_at, _MOST_BUSY_TIMES)
            busy = [(_seconds(begin), -int(-end.timestamp() // 1)) for begin, end in found]
        return Calendar(schedule, busy, _seconds(row["now"]))


def _slot(schedule: Schedule, start: int, minutes: int) -> Slot:
    starts_at = _instant(start)
    return Slot(
        doctor_id=schedule.doctor_id,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(minutes=minutes),
        local_start=starts_at.astimezone(zone(schedule.time_zone)).replace(tzinfo=None, fold=0),
        time_zone=schedule.time_zone,
    )


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


PARTIES = Statement(
    sa.select(appointments.c.doctor_id, appointments.c.patient_id).where(
        appointments.c.id == APPOINTMENT_ID, appointments.c.status != sa.literal_column("'HELD'")
    )
)
_clock = sa.select(NOW.label("now")).subquery("clock")
_from, _until = sa.func.lower(appointments.c.blocked), sa.func.upper(appointments.c.blocked)


def _epochs(instants: sa.ColumnElement[datetime]) -> sa.Function[Any]:
    """Aggregate to integers, which asyncpg decodes in a fraction of the time of ranges."""
    return sa.func.array_agg(aggregate_order_by(sa.cast(instants, sa.BigInteger), _from))


# Appointments take at most eight hours: a b-tree on the start finds those that reach into the window.
_LONGEST = sa.text("interval '1 day'")
_busy = (
    sa.select(
        _epochs(sa.func.floor(sa.extract("epoch", _from))).label("busy_from"),
        _epochs(sa.func.ceil(sa.extract("epoch", _until))).label("busy_until"),
    )
    .where(
        appointments.c.doctor_id == DOCTOR_ID,
        appointments.c.starts_at > sa.func.lower(DURING) - _LONGEST,
        appointments.c.starts_at < sa.func.upper(DURING) + _LONGEST,
        appointments.c.blocked.overlaps(DURING),
        sa.text(OCCUPIES_TIME),
        sa.not_(EXPIRED_HOLD),
    )
    .subquery("busy")
)
CALENDAR = Statement(
    sa.select(
        _clock.c.now,
        doctor.c.role,
        doctor.c.status,
        doctor.c.time_zone,
        schedules.c.version,
        schedules.c.updated_at,
        *_busy.c,
    ).select_from(
        _clock.outerjoin(doctor, doctor.c.id == DOCTOR_ID)
        .outerjoin(schedules, schedules.c.doctor_id == DOCTOR_ID)
        .join(_busy, sa.true())
    )
)
