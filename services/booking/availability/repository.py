"""The statements of a schedule and of the transaction that changes one."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DATERANGE, insert
from uuid_utils.compat import uuid7

from services.booking.availability.rules import availability_of
from services.booking.availability.schedules import Exceptions, Hours, Period, Schedule, WallSpan
from services.booking.errors import DoctorNotFound
from services.booking.models.messages import audit_log
from services.booking.models.schedules import schedule_exceptions as exceptions
from services.booking.models.schedules import schedule_history as history
from services.booking.models.schedules import schedule_hours as hours
from services.booking.models.schedules import schedule_periods as periods
from services.booking.models.schedules import schedules
from services.booking.time.obstacles import CALLER, CALLER_ID, NOW, caller, doctor, last_exceptions, param
from services.contracts.enums import Role
from services.kit.auth import KnownCaller, Principal, check_caller
from services.kit.postgres.database import Connection, Statement
from services.kit.trail import tables as trail
from services.kit.trail.entry import entry


class Situation(NamedTuple):
    now: datetime
    time_zone: str


async def get_situation(connection: Connection, principal: Principal, doctor_id: UUID) -> Situation:
    """Return the time and the doctor's zone, under the lock; raise unless the caller may still write."""
    values = {"caller": principal.id, "caller_session": principal.session_id, "doctor_id": doctor_id}
    now, *known, doctor_role, time_zone = await SITUATION.fetchrow(connection, **values)
    check_caller(principal, KnownCaller(*known))
    if doctor_role != Role.DOCTOR:
        raise DoctorNotFound
    return Situation(now, time_zone or "UTC")


async def find_schedule(connection: Connection, doctor_id: UUID) -> Schedule | None:
    return schedule_of_rows(await FIND.fetch(connection, doctor_id=doctor_id))


async def find_exceptions(connection: Connection, doctor_id: UUID) -> tuple[int, datetime, Exceptions]:
    """Return a doctor's exceptions that are not over, with their revision and its time."""
    rows = await FIND_EXCEPTIONS.fetch(connection, doctor_id=doctor_id)
    if not rows:
        return 0, _NEVER, Exceptions()
    spans = {kind: tuple(WallSpan(*row[3:]) for row in rows if row["kind"] == kind) for kind in ("OFF", "EXTRA")}
    return rows[0][0], rows[0][1], Exceptions(off=spans["OFF"], extra=spans["EXTRA"])


def schedule_of_rows(rows: Sequence[Any]) -> Schedule | None:
    """Convert rows that begin with `COLUMNS`: one for each hours, with its period and the schedule."""
    if not rows or rows[0]["version"] is None:
        return None
    found = []
    for period_id, group in groupby(rows, key=lambda row: row["period_id"]):
        if period_id is not None:
            of_period = list(group)
            first, end, cycle_weeks = (of_period[0][name] for name in ("first", "end", "cycle_weeks"))
            each = tuple(Hours(*(row[name] for name in _HOURS)) for row in of_period if row["week"] is not None)
            found.append(Period(first, end, cycle_weeks, each))
    return Schedule(periods=tuple(found), **{name: rows[0][name] for name in _SCHEDULE})


async def write(connection: Connection, schedule: Schedule, principal: Principal) -> None:
    """Replace the schedule under the doctor's lock, with a history row and an audit entry."""
    # A statement of its own: rows deleted in the statement that inserts would still violate the exclusion constraints.
    await _DELETE_PERIODS.execute(connection, doctor_id=schedule.doctor_id)
    audit = entry("availability.changed", actor=principal, target_type="availability", target_id=schedule.doctor_id)
    await _WRITE.execute(
        connection,
        **{name: getattr(schedule, name) for name in _SCHEDULE},
        actor_id=principal.id,
        actor_role=principal.role,
        schedule=msgspec.to_builtins(availability_of(schedule)),
        **trail.entry_values(audit),
    )
    with_ids = [(uuid7(), period) for period in schedule.periods]
    await connection.executemany(
        _INSERT_PERIOD.sql,
        [
            _INSERT_PERIOD.values(
                {
                    "id": id,
                    "doctor_id": schedule.doctor_id,
                    "valid": asyncpg.Range(period.first, period.end),
                    "cycle_weeks": period.cycle_weeks,
                }
            )
            for id, period in with_ids
        ],
    )
    await connection.executemany(
        _INSERT_HOURS.sql,
        [
            _INSERT_HOURS.values(
                {"period_id": id, "week": week, "weekday": weekday, "start_minute": start, "end_minute": end}
            )
            for id, period in with_ids
            for week, weekday, start, end in period.hours
        ],
    )


_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
DOCTOR_ID = param("doctor_id", schedules.c.doctor_id)
_SCHEDULE = [column.name for column in schedules.c]
_HOURS = ("week", "weekday", "start_minute", "end_minute")
COLUMNS = [
    *schedules.c,
    periods.c.id.label("period_id"),
    sa.func.lower(periods.c.valid).label("first"),
    sa.func.upper(periods.c.valid).label("end"),
    periods.c.cycle_weeks,
    *(hours.c[name] for name in _HOURS),
]
ORDER = (sa.func.lower(periods.c.valid).nulls_first(), *(hours.c[name] for name in _HOURS))


def with_periods(source: sa.FromClause) -> sa.FromClause:
    """Join the periods and the hours of the schedules in `source`."""
    return source.outerjoin(periods, periods.c.doctor_id == schedules.c.doctor_id).outerjoin(
        hours, hours.c.period_id == periods.c.id
    )


FIND = Statement(
    sa.select(*COLUMNS).select_from(with_periods(schedules)).where(schedules.c.doctor_id == DOCTOR_ID).order_by(*ORDER)
)
# In no zone is it more than a day earlier than in UTC.
_NOT_OVER = exceptions.c.ends_at > sa.func.timezone("UTC", NOW) - sa.text("interval '1 day'")
FIND_EXCEPTIONS = Statement(
    sa.select(*last_exceptions.c, *(exceptions.c[name] for name in ("kind", "starts_at", "ends_at")))
    .select_from(last_exceptions.outerjoin(exceptions, sa.and_(exceptions.c.doctor_id == DOCTOR_ID, _NOT_OVER)))
    .order_by(exceptions.c.starts_at)
)
_clock = sa.select(NOW.label("now")).subquery("clock")
SITUATION = Statement(
    sa.select(
        _clock.c.now,
        *CALLER,
        doctor.c.role.label("doctor_role"),
        sa.func.coalesce(schedules.c.time_zone, doctor.c.time_zone).label("time_zone"),
    ).select_from(
        _clock.outerjoin(caller, caller.c.id == CALLER_ID)
        .outerjoin(doctor, doctor.c.id == DOCTOR_ID)
        .outerjoin(schedules, schedules.c.doctor_id == DOCTOR_ID)
    )
)
_DELETE_PERIODS = Statement(sa.delete(periods).where(periods.c.doctor_id == DOCTOR_ID))
_VALUES = {name: param(name, schedules.c[name]) for name in _SCHEDULE}
_insert = insert(schedules).values(_VALUES)
_written = (
    _insert.on_conflict_do_update(index_elements=[schedules.c.doctor_id], set_=_VALUES)
    .returning(schedules.c.doctor_id)
    .cte("written")
)
_ENTRY = {
    "version": _VALUES["version"],
    "changed_at": _VALUES["updated_at"],
    **{name: param(name, history.c[name]) for name in ("actor_id", "actor_role", "schedule")},
}
_kept = sa.insert(history).from_select(
    ["doctor_id", *_ENTRY], sa.select(_written.c.doctor_id, *_ENTRY.values()).select_from(_written)
)
_WRITE = Statement(
    sa.select(_written.c.doctor_id).add_cte(
        _kept.cte("kept"), trail.insert_entry(audit_log, for_each=_written).cte("audited")
    )
)
_INSERT_PERIOD = Statement(
    sa.insert(periods).values(
        id=param("id", periods.c.id),
        doctor_id=DOCTOR_ID,
        valid=sa.bindparam("valid", type_=DATERANGE),
        cycle_weeks=param("cycle_weeks", periods.c.cycle_weeks),
    )
)
_INSERT_HOURS = Statement(
    sa.insert(hours).values({name: param(name, hours.c[name]) for name in ("period_id", *_HOURS)})
)
