"""Reads of patients by asyncpg."""

from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.auth.models import folded, searchable, users
from services.auth.users.reads import CHOSEN_TIME_ZONE, IS_VISIBLE_PATIENT, check_caller_now, user_id, visible_to
from services.auth.users.schemas import Patient
from services.kit.auth import Principal
from services.kit.errors import NotFound
from services.kit.postgres.database import Database, Statement

_PATIENT = tuple(CHOSEN_TIME_ZONE if name == "time_zone" else users[name] for name in Patient.__struct_fields__)
_get_patient = Statement(sa.select(*_PATIENT).where(IS_VISIBLE_PATIENT))
_FILTERS: dict[str, Any] = {
    "q": searchable.like(folded(sa.bindparam("q", type_=sa.Text))),
    "email": users.email == sa.bindparam("email", type_=sa.Text),
    "status": users.status == sa.bindparam("status", type_=sa.Text),
}


class PatientReads:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, principal: Principal, id: UUID) -> Patient:
        row = await self._database.fetchrow(_get_patient, **visible_to(principal, id))
        if row is None:
            raise NotFound
        return Patient(**row)

    async def list(
        self, principal: Principal, filters: dict[str, str], *, limit: int, before: UUID | None
    ) -> Sequence[Patient]:
        """Return the newest patients first, those before the id `before`."""
        values: dict[str, Any] = dict(filters)
        statement = list_statement(tuple(values), before is not None)
        if before is not None:
            values["id"] = before
        async with self._database.connection() as connection:
            await check_caller_now(connection, principal)
            rows = await statement.fetch(connection, **values, limit=limit)
        return [Patient(**row) for row in rows]


@cache
def list_statement(filters: tuple[str, ...], continued: bool) -> Statement:
    conditions = [
        users.role == sa.literal_column("'PATIENT'"),
        users.erased_at.is_(None),
        *(_FILTERS[name] for name in filters),
    ]
    if continued:
        conditions.append(users.id < user_id)
    limit = sa.bindparam("limit", type_=sa.Integer)
    return Statement(sa.select(*_PATIENT).where(*conditions).order_by(users.id.desc()).limit(limit))
