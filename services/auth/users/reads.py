"""Reads of one account by asyncpg, and the check of the caller that reads and writes share."""

from typing import Any
from unicodedata import normalize
from uuid import UUID

import sqlalchemy as sa

from services.auth.models import Session, users
from services.auth.users.schemas import KINDS, OwnAccount
from services.contracts.enums import Role, UserStatus
from services.contracts.events import UserState
from services.kit.auth import KnownCaller, Principal, check_caller
from services.kit.errors import Forbidden, NotFound
from services.kit.postgres.database import Connection, Database, Statement

user_id = sa.bindparam("id", type_=sa.Uuid)
_caller_id = sa.bindparam("caller", type_=sa.Uuid)
_is_admin = sa.bindparam("is_admin", type_=sa.Boolean)
# A doctor who is not, or no longer, admitted exists for nobody else; bookings keep the names that they need.
IS_VISIBLE_DOCTOR = sa.and_(
    users.id == user_id,
    users.role == Role.DOCTOR.value,
    users.erased_at.is_(None),
    sa.or_(users.status == UserStatus.ACTIVE.value, users.id == _caller_id, _is_admin),
)
IS_VISIBLE_PATIENT = sa.and_(
    users.id == user_id,
    users.role == Role.PATIENT.value,
    users.erased_at.is_(None),
    sa.or_(users.id == _caller_id, _is_admin),
)
CONTACT = (users.email, users.email_verified_at, users.pending_email, users.phone)
CHOSEN_TIME_ZONE = sa.case((users.time_zone_chosen, users.time_zone)).label("time_zone")
PROFILE = (
    users.id,
    users.fullname,
    users.status,
    users.speciality,
    users.experience,
    sa.cast(users.consultation_fee, sa.Text).label("consultation_fee"),
    CHOSEN_TIME_ZONE,
    users.locale,
    users.created_at,
    users.updated_at,
)
_STATE = (
    users.id,
    users.fullname.label("full_name"),
    users.role,
    users.status,
    users.time_zone,
    users.time_zone_chosen,
    users.locale,
    users.email,
    users.version,
    users.erased_at.is_not(None).label("erased"),
    users.email_verified_at.is_not(None).label("email_verified"),
)
_get_own = Statement(sa.select(users.role, *PROFILE, *CONTACT).where(users.id == user_id, users.erased_at.is_(None)))
_get_state = Statement(sa.select(*_STATE).where(users.id == user_id))
# A session without a row has expired.
_session_lives = sa.exists(
    sa.select(Session.id).where(
        Session.id == sa.bindparam("session_id", type_=sa.Uuid),
        Session.user_id == user_id,
        Session.revoked_at.is_(None),
    )
)
GET_CALLER = sa.select(users.role, users.status, _session_lives.label("session_lives")).where(users.id == user_id)
_get_caller = Statement(GET_CALLER)
_get_own_password = Statement(GET_CALLER.add_columns(users.email, users.password_hash))


def visible_to(principal: Principal, id: UUID) -> dict[str, Any]:
    """Return the values of `IS_VISIBLE_DOCTOR` and `IS_VISIBLE_PATIENT`: may `principal` see the account `id`?"""
    return {"id": id, "caller": principal.id, "is_admin": principal.role == Role.ADMIN}


def caller_values(principal: Principal) -> dict[str, UUID]:
    """Return the values of `GET_CALLER`."""
    return {"id": principal.id, "session_id": principal.session_id}


def check_caller_row(principal: Principal, row: Any) -> None:
    """Check the caller by a row of `GET_CALLER`; None is an account that is not there."""
    if row is None:
        raise Forbidden
    role, status, session_lives = row
    check_caller(principal, KnownCaller(role, status == UserStatus.SUSPENDED, not session_lives))


async def check_caller_now(connection: Connection, principal: Principal) -> None:
    check_caller_row(principal, await _get_caller.fetchrow(connection, **caller_values(principal)))


def searched(text: str | None) -> str | None:
    """Return what a search is for, without the blanks that a keyboard puts behind a word; None for nothing else."""
    return " ".join(normalize("NFKD", text).split()) or None if text else None


def containing(text: str) -> str:
    """Return the LIKE pattern of whatever contains `text`, taken literally."""
    escaped = text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


class UserReads:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_own(self, principal: Principal) -> OwnAccount:
        row = await self._database.fetchrow(_get_own, id=principal.id)
        if row is None:
            raise NotFound
        kind = KINDS[row["role"]]
        return kind(**{name: row[name] for name in kind.__struct_fields__})

    async def get_own_password(self, principal: Principal) -> tuple[str, str]:
        """Return the caller's address and password hash, if their session and status still allow changes."""
        row = await self._database.fetchrow(_get_own_password, **caller_values(principal))
        if row is None:
            raise Forbidden
        *caller, email, password_hash = row
        check_caller_row(principal, caller)
        return email, password_hash

    async def get_state(self, id: UUID) -> UserState:
        row = await self._database.fetchrow(_get_state, id=id)
        if row is None:
            raise NotFound
        return UserState(**row)
