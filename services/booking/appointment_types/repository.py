"""The statements of a transaction that changes the appointment types of a doctor."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.booking.appointment_types.rows import COLUMNS, DOCTOR_ID, ID, NAMES, ORDER, type_of
from services.booking.appointment_types.schemas import AppointmentType
from services.booking.models.appointment_types import appointment_types as types
from services.booking.models.appointments import appointments
from services.booking.models.messages import audit_log
from services.booking.time.obstacles import exists, param
from services.kit.auth import Principal
from services.kit.postgres.database import Connection, Statement
from services.kit.trail import tables as trail
from services.kit.trail.entry import entry


async def list_of(connection: Connection, doctor_id: UUID) -> Sequence[AppointmentType]:
    """Return all types of a doctor, under whose lock they do not change."""
    return [type_of(row) for row in await LIST.fetch(connection, doctor_id=doctor_id)]


async def insert(connection: Connection, created: AppointmentType, principal: Principal) -> None:
    await _INSERT.fetchval(connection, **_values(created), **_audited("created", created, principal))


async def update(connection: Connection, changed: AppointmentType, principal: Principal) -> None:
    await _UPDATE.fetchval(connection, **_values(changed), **_audited("changed", changed, principal))


async def delete_unbooked(connection: Connection, unwanted: AppointmentType, principal: Principal) -> bool:
    """Delete a type that no appointment has ever had; tell whether it was one."""
    audited = _audited("deleted", unwanted, principal)
    return await DELETE.fetchval(connection, id=unwanted.id, **audited) is not None


def _values(one: AppointmentType) -> dict[str, Any]:
    return {name: getattr(one, name) for name in NAMES}


def _audited(action: str, one: AppointmentType, principal: Principal) -> dict[str, Any]:
    """Return the values of the audit entry, whose target is the type."""
    name = f"appointment_type.{action}"
    return trail.entry_values(entry(name, actor=principal, target_type="appointment_type", target_id=one.id))


def _with_audit(written: sa.CTE) -> Statement:
    return Statement(sa.select(written.c.id).add_cte(trail.insert_entry(audit_log, for_each=written).cte("audited")))


_PARAMS = {name: param(name, types.c[name]) for name in NAMES}
LIST = Statement(sa.select(*COLUMNS).where(types.c.doctor_id == DOCTOR_ID).order_by(*ORDER))
_INSERT = _with_audit(sa.insert(types).values(_PARAMS).returning(types.c.id).cte("written"))
_UPDATE = _with_audit(sa.update(types).where(types.c.id == ID).values(_PARAMS).returning(types.c.id).cte("written"))
_BOOKED = exists(appointments, appointments.c.type_id == types.c.id)
DELETE = _with_audit(sa.delete(types).where(types.c.id == ID, sa.not_(_BOOKED)).returning(types.c.id).cte("written"))
