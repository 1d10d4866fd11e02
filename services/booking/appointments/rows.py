"""An appointment as a row: its columns, who may see it, and the struct that is made of it."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from services.booking.appointments.schemas import Appointment, BookedType
from services.booking.models.appointments import appointments
from services.booking.time.obstacles import CALLER_ID, DOCTOR_ID, NOW, PATIENT_ID, doctor, param, patient
from services.contracts.enums import AppointmentMode, AppointmentStatus, Role
from services.kit.auth import Principal
from services.kit.postgres.database import Statement

ID = param("id", appointments.c.id)
LIMIT = sa.bindparam("limit", type_=sa.BigInteger)
PENDING = appointments.c.status == sa.literal_column("'PENDING'")
UPCOMING = sa.and_(
    sa.or_(PENDING, appointments.c.status == sa.literal_column("'CONFIRMED'")), appointments.c.starts_at > NOW
)
UPCOMING_OF = {
    Role.DOCTOR: sa.and_(appointments.c.doctor_id == DOCTOR_ID, UPCOMING),
    Role.PATIENT: sa.and_(appointments.c.patient_id == PATIENT_ID, UPCOMING),
}
_VISIBLE: dict[str, sa.ColumnElement[bool]] = {
    Role.PATIENT: appointments.c.patient_id == CALLER_ID,
    Role.DOCTOR: appointments.c.doctor_id == CALLER_ID,
    Role.ADMIN: sa.true(),
}
_EARLY = sa.literal_column("interval '15 minutes'", sa.Interval)
# For its parties alone, as long as they need it. Without a caller the condition is null, for an admin false.
_MAY_JOIN = sa.and_(
    sa.or_(appointments.c.patient_id == CALLER_ID, appointments.c.doctor_id == CALLER_ID),
    appointments.c.status != sa.literal_column("'CANCELLED'"),
    appointments.c.status != sa.literal_column("'NO_SHOW'"),
    appointments.c.starts_at <= NOW + _EARLY,
    appointments.c.ends_at > NOW,
)
_SECONDS = sa.extract("epoch", appointments.c.ends_at - appointments.c.starts_at)
_SOURCES: dict[str, sa.ColumnElement[Any]] = {
    **{column.name: column for column in appointments.c},
    "patient_name": patient.c.full_name,
    "doctor_name": doctor.c.full_name,
    "duration_minutes": sa.cast(_SECONDS / sa.literal_column("60"), sa.Integer),
    "local_starts_at": appointments.c.wall_time,
    "join_url": sa.case((_MAY_JOIN, appointments.c.join_url)),
    "type_price": sa.cast(appointments.c.type_price, sa.Text),
}
_NAMES = [name for name in Appointment.__struct_fields__ if name != "type"]
_TYPE = slice(len(_NAMES), len(_NAMES) + 4)
COLUMNS = [_SOURCES[name].label(name) for name in (*_NAMES, "type_id", "type_name", "type_mode", "type_price")]
_WITH_NAMES = appointments.outerjoin(doctor, doctor.c.id == appointments.c.doctor_id).outerjoin(
    patient, patient.c.id == appointments.c.patient_id
)
SELECT = sa.select(*COLUMNS).select_from(_WITH_NAMES)


def visible_to(role: str) -> sa.ColumnElement[bool]:
    """Return the condition that every read for a caller starts from. A held slot is not an appointment yet."""
    return sa.and_(appointments.c.status != sa.literal_column("'HELD'"), _VISIBLE[role])


def by_id(query: sa.Select[Any], compiled: Callable[[sa.Select[Any]], Statement] = Statement) -> dict[str, Statement]:
    """Return for each role the query of one appointment that the caller may see."""
    return {role: compiled(query.where(appointments.c.id == ID, visible_to(role))) for role in Role}


def caller_values(principal: Principal) -> dict[str, Any]:
    """Return the parameters of `visible_to`."""
    return {} if principal.role == Role.ADMIN else {"caller": principal.id}


def appointment_of(row: Any) -> Appointment:
    """Convert a row that begins with `COLUMNS`."""
    values = dict(zip(_NAMES, row, strict=False))
    values["status"] = AppointmentStatus(values["status"])
    type_id, name, mode, price = row[_TYPE]
    if type_id is not None:
        values["type"] = BookedType(id=type_id, name=name, mode=AppointmentMode(mode), price=price)
    return Appointment(**values)
