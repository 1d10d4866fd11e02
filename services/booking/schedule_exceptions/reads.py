from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.booking.availability.schedules import WallSpan
from services.booking.errors import DoctorNotFound
from services.booking.models.schedules import schedule_exception_history as history
from services.booking.models.schedules import schedule_exceptions as exceptions
from services.booking.schedule_exceptions.rules import wire_times
from services.booking.schedule_exceptions.schemas import ScheduleException, ScheduleExceptionChange
from services.booking.time.obstacles import doctor, param
from services.contracts.enums import Role, UserStatus
from services.kit.auth import Principal
from services.kit.postgres.database import Database, Statement


class ScheduleExceptionReads:
    """Reads of one statement each, on a connection of their own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self,
        caller: Principal | None,
        doctor_id: UUID,
        *,
        first: date,
        end: date | None,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Sequence[ScheduleException]:
        """Return the exceptions with a part between two days, by start, then id, after a position."""
        after_start, after_id = after or (datetime.combine(date.min, time.min), UUID(int=0))
        rows = await self._database.fetch(
            LIST,
            doctor_id=doctor_id,
            first=datetime.combine(first, time.min),
            end=datetime.combine(end or date.max, time.min),
            after_start=after_start,
            after_id=after_id,
            limit=limit,
        )
        staff = caller is not None and (caller.id == doctor_id or caller.role == Role.ADMIN)
        if not rows or (rows[0]["doctor_status"] == UserStatus.PENDING and not staff):
            raise DoctorNotFound
        return [_exception(row, with_reason=staff) for row in rows if row["id"] is not None]

    async def history(self, doctor_id: UUID, *, limit: int, after_revision: int) -> Sequence[ScheduleExceptionChange]:
        """Return the changes after a revision, oldest first."""
        rows = await self._database.fetch(HISTORY, doctor_id=doctor_id, after_revision=after_revision, limit=limit)
        return [
            ScheduleExceptionChange(
                **{name: row[name] for name in _AUTHOR}, **wire_times(WallSpan(row["starts_at"], row["ends_at"]))
            )
            for row in rows
        ]


def _exception(row: Any, *, with_reason: bool) -> ScheduleException:
    return ScheduleException(
        id=row["id"],
        doctor_id=row["doctor_id"],
        kind=row["kind"],
        reason=row["reason"] if with_reason else None,
        created_at=row["created_at"],
        **wire_times(WallSpan(row["starts_at"], row["ends_at"])),
    )


_DOCTOR_ID = param("doctor_id", exceptions.c.doctor_id)
_LIMIT = sa.bindparam("limit", type_=sa.BigInteger)
_starts_at, _FIRST = exceptions.c.starts_at, param("first", exceptions.c.starts_at)
_page = (
    sa.select(exceptions)
    .where(
        exceptions.c.doctor_id == _DOCTOR_ID,
        exceptions.c.ends_at > _FIRST,
        # None is longer, and so those that are long over are not looked at.
        _starts_at >= _FIRST - sa.text("interval '366 days'"),
        _starts_at < param("end", _starts_at),
        sa.tuple_(_starts_at, exceptions.c.id)
        > sa.tuple_(param("after_start", _starts_at), param("after_id", exceptions.c.id)),
    )
    .order_by(_starts_at, exceptions.c.id)
    .limit(_LIMIT)
    .subquery("page")
)
LIST = Statement(
    sa.select(doctor.c.status.label("doctor_status"), *_page.c)
    .select_from(doctor.outerjoin(_page, sa.true()))
    .where(doctor.c.id == _DOCTOR_ID, doctor.c.role == sa.literal_column("'DOCTOR'"))
    .order_by(_page.c.starts_at, _page.c.id)
)
_AUTHOR = ("revision", "changed_at", "actor_id", "actor_role", "action", "exception_id", "kind")
HISTORY = Statement(
    sa.select(*(history.c[name] for name in (*_AUTHOR, "starts_at", "ends_at")))
    .where(
        history.c.doctor_id == _DOCTOR_ID,
        history.c.revision > sa.bindparam("after_revision", type_=sa.BigInteger),
    )
    .order_by(history.c.revision)
    .limit(_LIMIT)
)
