from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.booking.holds.repository import live_and_visible_to
from services.booking.holds.schemas import Hold
from services.booking.models.appointments import appointments
from services.booking.time.obstacles import DOCTOR_ID, PATIENT_ID, param
from services.contracts.enums import Role
from services.kit.auth import Principal
from services.kit.postgres.database import Database, Statement


class HoldReads:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, principal: Principal, *, limit: int, after: tuple[datetime, UUID] | None, **filters: UUID | None
    ) -> Sequence[Hold]:
        """Return live holds by start, then id, from `after` on; a filter that is None does not filter."""
        values: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
        shape = frozenset(values)
        if after is not None:
            shape |= {"after"}
            values |= {"after_start": after[0], "after_id": after[1]}
        if principal.role != Role.ADMIN:
            values["caller"] = principal.id
        found = await self._database.fetch(list_of(principal.role, shape), limit=limit, **values)
        return [Hold(**dict(zip(_NAMES, row, strict=True))) for row in found]


_start, _id = appointments.c.starts_at, appointments.c.id
_SECONDS = sa.extract("epoch", appointments.c.ends_at - _start)
_SOURCES: dict[str, sa.ColumnElement[Any]] = {
    **{column.name: column for column in appointments.c},
    "duration_minutes": sa.cast(_SECONDS / sa.literal_column("60"), sa.Integer),
    "local_starts_at": appointments.c.wall_time,
    "expires_at": appointments.c.hold_expires_at,
}
_NAMES = Hold.__struct_fields__
_FILTERS = {
    "doctor_id": appointments.c.doctor_id == DOCTOR_ID,
    "patient_id": appointments.c.patient_id == PATIENT_ID,
    "after": sa.tuple_(_start, _id) > sa.tuple_(param("after_start", _start), param("after_id", _id)),
}


@cache
def list_of(role: str, filters: frozenset[str]) -> Statement:
    """Return one statement per shape, as the list of appointments does."""
    return Statement(
        sa.select(*(_SOURCES[name].label(name) for name in _NAMES))
        .where(live_and_visible_to(role), *(_FILTERS[name] for name in sorted(filters)))
        .order_by(_start, _id)
        .limit(sa.bindparam("limit", type_=sa.BigInteger))
    )
