from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from services.booking.appointments import rows
from services.booking.appointments.changes import WHOLE_EVERY
from services.booking.appointments.rows import appointment_of, caller_values, visible_to
from services.booking.appointments.schemas import Appointment, AppointmentState, HistoryEntry
from services.booking.models.appointments import appointment_history as history
from services.booking.models.appointments import appointments
from services.booking.time.obstacles import DOCTOR_ID, PATIENT_ID, param
from services.contracts.appointments import FutureAppointment
from services.contracts.enums import AppointmentStatus, Role
from services.kit.auth import Principal
from services.kit.errors import NotFound
from services.kit.postgres.database import Database, Statement


class AppointmentReads:
    """Reads of one statement each, on a connection of their own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, principal: Principal, appointment_id: UUID) -> Appointment:
        row = await self._database.fetchrow(GET[principal.role], id=appointment_id, **caller_values(principal))
        if row is None:
            raise NotFound
        return appointment_of(row)

    async def list(
        self, principal: Principal, *, limit: int, after: tuple[datetime, UUID] | None, **filters: Any
    ) -> Sequence[Appointment]:
        """Return appointments by start descending, then id, from `after` on; a filter that is None does not filter."""
        values = {name: value for name, value in filters.items() if value is not None}
        shape = frozenset(values)
        if after is not None:
            shape |= {"after"}
            values |= {"after_start": after[0], "after_id": after[1]}
        statement = list_of(principal.role, shape)
        found = await self._database.fetch(statement, limit=limit, **values, **caller_values(principal))
        return [appointment_of(row) for row in found]

    async def history(
        self, principal: Principal, appointment_id: UUID, *, limit: int, after_version: int
    ) -> Sequence[HistoryEntry]:
        """Return the entries after a version, oldest first."""
        start = max(1, after_version - after_version % WHOLE_EVERY)
        values = {"id": appointment_id, "from_version": start, "limit": limit + max(0, after_version + 1 - start)}
        found = await self._database.fetch(HISTORY[principal.role], **values, **caller_values(principal))
        if not found:
            await self.get(principal, appointment_id)
        entries: list[HistoryEntry] = []
        state: dict[str, Any] = {}
        for version, changed_at, actor_id, actor_role, reason, changes in found:
            before, state = state, state | changes
            if version > after_version:
                entries.append(
                    HistoryEntry(
                        version=version,
                        changed_at=changed_at,
                        actor_id=actor_id,
                        actor_role=actor_role,
                        reason=reason,
                        before=msgspec.convert(before, AppointmentState) if before else None,
                        after=msgspec.convert(state, AppointmentState),
                    )
                )
        return entries

    async def future_of(self, role: Role, user_id: UUID, limit: int) -> Sequence[FutureAppointment]:
        """Return the next appointments of a doctor or a patient, earliest first."""
        found = await self._database.fetch(FUTURE[role], limit=limit, **{f"{role.lower()}_id": user_id})
        return [FutureAppointment(id=id, starts_at=at, status=AppointmentStatus(status)) for id, at, status in found]


GET = rows.by_id(rows.SELECT)
_start = appointments.c.starts_at
_FILTERS = {
    "status": appointments.c.status == param("status", appointments.c.status),
    "from_": _start >= param("from_", _start),
    "to": _start < param("to", _start),
    "doctor_id": appointments.c.doctor_id == DOCTOR_ID,
    "patient_id": appointments.c.patient_id == PATIENT_ID,
    "after": sa.tuple_(_start, appointments.c.id)
    < sa.tuple_(param("after_start", _start), param("after_id", appointments.c.id)),
}


@cache
def list_of(role: str, filters: frozenset[str]) -> Statement:
    """Return one statement per shape: a filter that is optional within a statement keeps the planner from its index."""
    return Statement(
        rows.SELECT.where(visible_to(role), *(_FILTERS[name] for name in sorted(filters)))
        .order_by(_start.desc(), appointments.c.id.desc())
        .limit(rows.LIMIT)
    )


_NAMES = ("version", "changed_at", "actor_id", "actor_role", "reason")
HISTORY = rows.by_id(
    sa.select(*(history.c[name] for name in _NAMES), sa.func.coalesce(history.c.changes, history.c.after))
    .select_from(history.join(appointments, appointments.c.id == history.c.appointment_id))
    .where(history.c.version >= sa.bindparam("from_version", type_=sa.BigInteger))
    .order_by(history.c.version)
    .limit(rows.LIMIT)
)
_FUTURE = sa.select(appointments.c.id, _start, appointments.c.status).order_by(_start).limit(rows.LIMIT)
FUTURE = {role: Statement(_FUTURE.where(upcoming)) for role, upcoming in rows.UPCOMING_OF.items()}
