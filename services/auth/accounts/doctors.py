"""GET /api/doctors: one statement per shape of the question, each with an index that gives its order."""

from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from services.auth.models import by_experience, by_fee, by_name, by_speciality, searchable, users
from services.contracts.enums import UserStatus
from services.kit.postgres.database import Statement

DoctorSort = Literal["name", "-experience", "fee"]


class DoctorFilter(msgspec.Struct, frozen=True, kw_only=True):
    q: str | None = None
    speciality: str | None = None
    min_experience: int | None = None
    max_fee: Decimal | None = None
    status: UserStatus = UserStatus.ACTIVE

    def values(self) -> dict[str, Any]:
        """Those that are given, by name, as the statement takes them."""
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
    "q": searchable.ilike(sa.bindparam("q", type_=sa.Text)),
    "speciality": by_speciality == sa.func.lower(sa.bindparam("speciality", type_=sa.Text)),
    "min_experience": users.experience >= sa.bindparam("min_experience", type_=sa.Integer),
    "max_fee": users.consultation_fee <= sa.bindparam("max_fee", type_=sa.Numeric),
}
PROFILE = (
    users.id,
    users.fullname,
    users.status,
    users.speciality,
    users.experience,
    sa.cast(users.consultation_fee, sa.Text).label("consultation_fee"),
    users.time_zone,
    users.locale,
    users.created_at,
    users.updated_at,
)
PROFILE_NAMES = tuple(column.name for column in PROFILE)


@cache
def statement(
    sort: DoctorSort, filters: tuple[str, ...], continued: bool, status: UserStatus = UserStatus.ACTIVE
) -> Statement:
    order = ORDERS[sort]
    # As a literal, since the indexes are partial by status.
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


def containing(text: str) -> str:
    """The LIKE pattern for whatever contains `text`, taken literally."""
    escaped = text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"
