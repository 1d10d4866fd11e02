from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by

from services.booking.availability.schedules import Schedule, always_open
from services.booking.availability.versions import ScheduleVersion, ScheduleVersions
from services.booking.errors import DoctorNotFound, DoctorUnavailable
from services.booking.models.appointments import OCCUPIES_TIME, appointments
from services.booking.models.schedules import schedules
from services.booking.slots.engine import first_starts, free_starts, widened
from services.booking.slots.schemas import Slot, SlotDay
from services.booking.slots.wall_times import Span, local_day
from services.booking.time import chosen_type
from services.booking.time.busy import busy_times
from services.booking.time.chosen_type import ChosenType, TypeChoice, chosen
from services.booking.time.fields import DEFAULT_MINUTES
from services.booking.time.obstacles import (
    APPOINTMENT_ID,
    DOCTOR_ID,
    EXPIRED_HOLD,
    NOW,
    Claim,
    doctor,
    last_exceptions,
)
from services.booking.time.ranges import BUFFER_AFTER, BUFFER_BEFORE, DURING
from services.contracts.enums import Role, UserStatus
from services.kit.auth import Principal
from services.kit.errors import NotFound
from services.kit.postgres.database import Database, Statement
from services.kit.zones import zone

_MINUTE = timedelta(minutes=1)
_MOST_BUSY_TIMES = 20_000
# What an appointment of the longest type takes beyond a window in which it starts.
_BEFORE, _AFTER = timedelta(hours=4), timedelta(hours=12)


class Calendar(NamedTuple):
    """What the free times of a doctor follow from, as of one moment. `busy` is sorted."""

    schedule: Schedule
    busy: Sequence[Span]
    now: int
    type_id: UUID | None
    minutes: int


class Moving(NamedTuple):
    """An appointment that is to be moved: its own time is free for it, and its patient's other times are not."""

    appointment_id: UUID
    doctor_id: UUID
    patient_id: UUID
    type_id: UUID | None
    length: timedelta
    buffer_before: timedelta
    buffer_after: timedelta


class SlotReads:
    def __init__(self, database: Database, versions: ScheduleVersions) -> None:
        self._database, self._versions = database, versions

    async def to_move(self, caller: Principal, appointment_id: UUID) -> Moving:
        """Return the appointment, if it is the caller's, whose own time is free for its move."""
        row = await self._database.fetchrow(MOVING, appointment_id=appointment_id)
        if row is None or (caller.role != Role.ADMIN and caller.id not in (row["doctor_id"], row["patient_id"])):
            raise NotFound
        return Moving(*row)

    async def slots(
        self,
        doctor_id: UUID,
        starts_at: datetime,
        ends_at: datetime,
        choice: TypeChoice,
        limit: int,
        moving: Moving | None,
    ) -> list[Slot]:
        """Return the first free times between two instants."""
        calendar = await self._calendar(doctor_id, starts_at, ends_at, choice, moving)
        window = _seconds(starts_at), _seconds(ends_at)
        starts = first_starts(calendar.schedule, calendar.busy, window, calendar.minutes * 60, calendar.now, limit)
        return [_slot(calendar, start) for start in starts]

    async def days(
        self,
        doctor_id: UUID,
        starts_at: datetime,
        ends_at: datetime,
        choice: TypeChoice,
        after: date | None,
        moving: Moving | None,
    ) -> list[SlotDay]:
        """Return each day after `after` that has a part between two instants."""
        schedule, busy, now, _, minutes = await self._calendar(doctor_id, starts_at, ends_at, choice, moving)
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
        self, doctor_id: UUID, starts_at: datetime, ends_at: datetime, choice: TypeChoice, moving: Moving | None
    ) -> Calendar:
        window = {"starts_at": starts_at - _BEFORE, "ends_at": ends_at + _AFTER}
        async with self._database.connection() as connection:
            row = await CALENDAR.fetchrow(connection, doctor_id=doctor_id, **window, **choice.values)
            if row["role"] != Role.DOCTOR or row["status"] == UserStatus.PENDING:
                raise DoctorNotFound
            if row["status"] == UserStatus.SUSPENDED:
                raise DoctorUnavailable
            found = ChosenType(choice, *row[-len(chosen_type.COLUMNS) :])
            found.refuse()
            version = ScheduleVersion(*(row[name] for name in ScheduleVersion._fields))
            schedule = await self._versions.get(connection, doctor_id, version)
        schedule = schedule or always_open(doctor_id, row["time_zone"])
        now = _seconds(row["now"])
        if moving is not None:
            length = timedelta(minutes=choice.minutes) if choice.minutes else moving.length
            claim = Claim(*moving[:3], starts_at, ends_at, moving.buffer_before, moving.buffer_after)
            times = await busy_times(self._database, claim, ends_at + length, _MOST_BUSY_TIMES)
            busy = [(_seconds(begin), -int(-end.timestamp() // 1)) for begin, end in times]
            return Calendar(schedule, busy, now, moving.type_id, length // _MINUTE)
        busy = list(zip(row["busy_from"] or (), row["busy_until"] or (), strict=True))
        before, after = (int(buffer.total_seconds()) for buffer in found.buffers)
        minutes = found.duration // _MINUTE if found.duration else choice.minutes or DEFAULT_MINUTES
        return Calendar(schedule, widened(busy, before, after), now, found.id, minutes)


def _slot(calendar: Calendar, start: int) -> Slot:
    schedule, starts_at = calendar.schedule, _instant(start)
    return Slot(
        doctor_id=schedule.doctor_id,
        type_id=calendar.type_id,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(minutes=calendar.minutes),
        local_start=starts_at.astimezone(zone(schedule.time_zone)).replace(tzinfo=None, fold=0),
        time_zone=schedule.time_zone,
    )


def _seconds(instant: datetime) -> int:
    return int(instant.timestamp())


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


MOVING = Statement(
    sa.select(
        *(appointments.c[name] for name in ("id", "doctor_id", "patient_id", "type_id")),
        appointments.c.ends_at - appointments.c.starts_at,
        BUFFER_BEFORE,
        BUFFER_AFTER,
    ).where(appointments.c.id == APPOINTMENT_ID, appointments.c.status != sa.literal_column("'HELD'"))
)
_clock = sa.select(NOW.label("now")).subquery("clock")
_from, _until = sa.func.lower(appointments.c.blocked), sa.func.upper(appointments.c.blocked)


def _epochs(instants: sa.ColumnElement[datetime]) -> sa.Function[Any]:
    """Aggregate to integers, which asyncpg decodes in a fraction of the time of ranges."""
    return sa.func.array_agg(aggregate_order_by(sa.cast(instants, sa.BigInteger), _from))


# Appointments take at most 16 hours with their buffers: a b-tree on the start finds those that reach into the window.
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
        *last_exceptions.c,
        *_busy.c,
        *chosen_type.COLUMNS,
    ).select_from(
        _clock.outerjoin(doctor, doctor.c.id == DOCTOR_ID)
        .outerjoin(schedules, schedules.c.doctor_id == DOCTOR_ID)
        .outerjoin(last_exceptions, sa.true())
        .join(_busy, sa.true())
        .outerjoin(chosen, sa.true())
    )
)
