"""Reads of doctors by asyncpg: for the list one statement per shape of the question, each ordered by an index."""

from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Meta

from services.auth.models import by_experience, by_fee, by_name, by_speciality, folded, searchable, users
from services.auth.users.reads import CONTACT, IS_VISIBLE_DOCTOR, PROFILE, check_caller_now, containing, visible_to
from services.auth.users.schemas import Doctor
from services.contracts.enums import UserStatus
from services.kit.auth import Principal
from services.kit.errors import NotFound
from services.kit.postgres.database import Database, Statement

DoctorSort = Literal["name", "-experience", "fee"]

GET_DOCTOR = Statement(sa.select(*PROFILE, *CONTACT).where(IS_VISIBLE_DOCTOR))
PROFILE_NAMES = tuple(column.name for column in PROFILE)


class DoctorFilter(msgspec.Struct, frozen=True, kw_only=True):
    q: str | None = None
    speciality: str | None = None
    min_experience: int | None = None
    max_fee: Decimal | None = None
    status: UserStatus = UserStatus.ACTIVE

    def values(self) -> dict[str, Any]:
        """Return the filters that are set, by name, as the statement takes them."""
        values = {name: value for name in _FILTERS if (value := getattr(self, name)) is not None}
        return values if self.q is None else {**values, "q": containing(self.q)}


class _Order(msgspec.Struct, frozen=True):
    key: Any
    type: Any
    cursor: Any
    decode: Any


ORDERS: dict[DoctorSort, _Order] = {
    "name": _Order(by_name, sa.Text, tuple[Literal["name"], str, UUID], str),
    "-experience": _Order(
        by_experience, sa.Integer, tuple[Literal["-experience"], Annotated[int, Meta(ge=-80, le=1)], UUID], int
    ),
    "fee": _Order(
        by_fee,
        sa.Numeric,
        tuple[Literal["fee"], Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{2})?(?![\s\S])")], UUID],
        Decimal,
    ),
}
_FILTERS: dict[str, Any] = {
    "q": searchable.like(folded(sa.bindparam("q", type_=sa.Text))),
    "speciality": by_speciality == folded(sa.bindparam("speciality", type_=sa.Text)),
    "min_experience": users.experience >= sa.bindparam("min_experience", type_=sa.Integer),
    "max_fee": users.consultation_fee <= sa.bindparam("max_fee", type_=sa.Numeric),
}


class DoctorReads:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, principal: Principal, id: UUID) -> Doctor:
        """Return the profile, with contact data for that doctor and admins."""
        values = visible_to(principal, id)
        row = await self._database.fetchrow(GET_DOCTOR, **values)
        if row is None:
            raise NotFound
        contact = {} if values["is_admin"] or principal.id == id else {column.name: UNSET for column in CONTACT}
        return Doctor(**{**row, **contact})

    async def list(
        self,
        caller: Principal | None,
        wanted: DoctorFilter,
        sort: DoctorSort,
        *,
        limit: int,
        after: tuple[Any, UUID] | None,
    ) -> Sequence[tuple[Any, Doctor]]:
        """Return each doctor with its key in the sort's order, from the key and the id `after` on.

        `caller` is an admin who asks for doctors whom not everybody may see.
        """
        values = wanted.values()
        statement = list_statement(sort, tuple(values), after is not None, wanted.status)
        if after is not None:
            values |= {"key": after[0], "id": after[1]}
        async with self._database.connection() as connection:
            if caller is not None:
                await check_caller_now(connection, caller)
            rows = await statement.fetch(connection, **values, limit=limit)
        return [(row["key"], Doctor(**{name: row[name] for name in PROFILE_NAMES})) for row in rows]


@cache
def list_statement(
    sort: DoctorSort, filters: tuple[str, ...], continued: bool, status: UserStatus = UserStatus.ACTIVE
) -> Statement:
    order = ORDERS[sort]
    # Literals, because the indexes are partial by role and status.
    conditions = [users.role == sa.literal_column("'DOCTOR'"), users.status == sa.literal_column(f"'{status}'")]
    if status == UserStatus.SUSPENDED:
        conditions.append(users.erased_at.is_(None))
    conditions += [*(_FILTERS[name] for name in filters)]
    if continued:
        last = sa.tuple_(sa.bindparam("key", type_=order.type), sa.bindparam("id", type_=sa.Uuid))
        conditions.append(sa.tuple_(order.key, users.id) > last)
    return Statement(
        sa.select(*PROFILE, order.key.label("key"))
        .where(*conditions)
        .order_by(order.key, users.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )
