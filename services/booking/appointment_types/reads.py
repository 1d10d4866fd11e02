from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from msgspec.structs import replace

from services.booking.appointment_types.rows import COLUMNS, DOCTOR_ID, ID, ORDER, type_of
from services.booking.appointment_types.schemas import AppointmentType
from services.booking.errors import DoctorNotFound, TypeNotFound
from services.booking.models.appointment_types import appointment_types as types
from services.booking.time.obstacles import doctor, param
from services.contracts.enums import Role, UserStatus
from services.kit.auth import Principal
from services.kit.postgres.database import Database, Statement


class AppointmentTypeReads:
    """Reads of one statement each, on a connection of their own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, caller: Principal | None, doctor_id: UUID, *, limit: int, after: tuple[int, UUID] | None
    ) -> Sequence[AppointmentType]:
        """Return the types that the caller may see by position, then id, from `after` on."""
        position, after_id = after or (-1, UUID(int=0))
        found, staff = await self._fetch(LIST, caller, doctor_id, limit=limit, position=position, after_id=after_id)
        return [one if staff else _public(one) for one in found]

    async def get(self, caller: Principal | None, doctor_id: UUID, type_id: UUID) -> AppointmentType:
        found, staff = await self._fetch(GET, caller, doctor_id, id=type_id)
        if not found:
            raise TypeNotFound
        return found[0] if staff else _public(found[0])

    async def _fetch(
        self, statement: Statement, caller: Principal | None, doctor_id: UUID, **values: object
    ) -> tuple[Sequence[AppointmentType], bool]:
        staff = caller is not None and (caller.id == doctor_id or caller.role == Role.ADMIN)
        rows = await self._database.fetch(statement, doctor_id=doctor_id, inactive=staff, **values)
        if not rows or (rows[0]["doctor_status"] == UserStatus.PENDING and not staff):
            raise DoctorNotFound
        return [type_of(row) for row in rows if row["id"] is not None], staff


def _public(one: AppointmentType) -> AppointmentType:
    return replace(one, join_url_template=None)


def _of_doctor(*conditions: sa.ColumnElement[bool]) -> sa.Select[tuple[object, ...]]:
    """Return the query of the doctor's row with each type, or without any."""
    inactive = sa.bindparam("inactive", type_=sa.Boolean)
    joined = sa.and_(types.c.doctor_id == doctor.c.id, sa.or_(types.c.active, inactive), *conditions)
    return (
        sa.select(*COLUMNS, doctor.c.status.label("doctor_status"))
        .select_from(doctor.outerjoin(types, joined))
        .where(doctor.c.id == DOCTOR_ID, doctor.c.role == sa.literal_column("'DOCTOR'"))
        .order_by(*ORDER)
    )


_after = sa.tuple_(param("position", types.c.position), param("after_id", types.c.id))
LIST = Statement(_of_doctor(sa.tuple_(*ORDER) > _after).limit(sa.bindparam("limit", type_=sa.BigInteger)))
GET = Statement(_of_doctor(types.c.id == ID))
