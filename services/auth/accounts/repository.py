from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from services.auth.accounts import doctors
from services.auth.accounts.doctors import DoctorFilter, DoctorSort
from services.auth.accounts.schemas import KINDS, Account, Doctor, OwnAccount, Patient
from services.auth.models import Session, User, outbox, searchable, users
from services.contracts.enums import Role, UserStatus
from services.contracts.events import UserChange, UserState
from services.kit.auth import KnownCaller, Principal, check_caller
from services.kit.errors import Forbidden, NotFound
from services.kit.postgres.database import Database, Statement
from services.kit.postgres.outbox import event_values, insert_event

A = TypeVar("A", bound=Account)

_id = sa.bindparam("id", type_=sa.Uuid)
_caller = sa.bindparam("caller", type_=sa.Uuid)
_is_admin = sa.bindparam("is_admin", type_=sa.Boolean)
# A doctor who is not admitted, or not any more, exists for nobody else; bookings keep the names they need themselves.
_visible_doctor = sa.and_(
    users.id == _id,
    users.role == Role.DOCTOR.value,
    users.erased_at.is_(None),
    sa.or_(users.status == UserStatus.ACTIVE.value, users.id == _caller, _is_admin),
)
_visible_patient = sa.and_(
    users.id == _id,
    users.role == Role.PATIENT.value,
    users.erased_at.is_(None),
    sa.or_(users.id == _caller, _is_admin),
)

_PATIENT = tuple(users[name] for name in Patient.__struct_fields__)
_CONTACT = (users.email, users.email_verified_at, users.phone)
_STATE = (
    users.id,
    users.fullname.label("full_name"),
    users.role,
    users.status,
    users.time_zone,
    users.locale,
    users.email,
    users.version,
    users.erased_at.is_not(None).label("erased"),
    users.email_verified_at.is_not(None).label("email_verified"),
)
GET_DOCTOR = Statement(sa.select(*doctors.PROFILE, *_CONTACT).where(_visible_doctor))
_get_patient = Statement(sa.select(*_PATIENT).where(_visible_patient))
_get_own = Statement(
    sa.select(users.role, *doctors.PROFILE, *_CONTACT).where(users.id == _id, users.erased_at.is_(None))
)
_get_state = Statement(sa.select(*_STATE).where(users.id == _id))
# A session that is not there any more has expired.
_session_lives = sa.exists(
    sa.select(Session.id).where(
        Session.id == sa.bindparam("session_id", type_=sa.Uuid), Session.user_id == _id, Session.revoked_at.is_(None)
    )
)
_get_caller = sa.select(users.role, users.status, _session_lives.label("session_lives")).where(users.id == _id)
_get_caller_now = Statement(_get_caller)
_get_own_password = Statement(_get_caller.add_columns(users.email, users.password_hash))
_PATIENT_FILTERS: dict[str, Any] = {
    "q": searchable.ilike(sa.bindparam("q", type_=sa.Text)),
    "email": users.email == sa.bindparam("email", type_=sa.Text),
    "status": users.status == sa.bindparam("status", type_=sa.Text),
}
_append = insert_event(outbox)


def _seen_by(principal: Principal, id: UUID) -> dict[str, Any]:
    return {"id": id, "caller": principal.id, "is_admin": principal.role == Role.ADMIN}


def _check_caller(principal: Principal, row: Any) -> None:
    if row is None:
        raise Forbidden
    role, status, session_lives = row
    check_caller(principal, KnownCaller(role, status == UserStatus.SUSPENDED, not session_lives))


def _caller_values(principal: Principal) -> dict[str, UUID]:
    return {"id": principal.id, "session_id": principal.session_id}


def _doctor(row: Any, *, with_contact: bool) -> Doctor:
    contact = {} if with_contact else {column.name: UNSET for column in _CONTACT}
    return Doctor(**{**row, **contact})


@cache
def patient_list_statement(filters: tuple[str, ...], continued: bool) -> Statement:
    conditions = [
        users.role == sa.literal_column("'PATIENT'"),
        users.erased_at.is_(None),
        *(_PATIENT_FILTERS[name] for name in filters),
    ]
    if continued:
        conditions.append(users.id < _id)
    limit = sa.bindparam("limit", type_=sa.Integer)
    return Statement(sa.select(*_PATIENT).where(*conditions).order_by(users.id.desc()).limit(limit))


class AccountRepository:
    """What is read and not changed: compiled statements on asyncpg, rows straight into the answers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_doctor(self, principal: Principal, id: UUID) -> Doctor:
        seen_by = _seen_by(principal, id)
        row = await self._database.fetchrow(GET_DOCTOR, **seen_by)
        if row is None:
            raise NotFound
        return _doctor(row, with_contact=seen_by["is_admin"] or principal.id == id)

    async def get_own_password(self, principal: Principal) -> tuple[str, str]:
        """E-mail address and password hash, for a session that may still change something."""
        row = await self._database.fetchrow(_get_own_password, **_caller_values(principal))
        if row is None:
            raise Forbidden
        *caller, email, known = row
        _check_caller(principal, caller)
        return email, known

    async def list_doctors(
        self,
        asking: Principal | None,
        wanted: DoctorFilter,
        sort: DoctorSort,
        *,
        limit: int,
        after: tuple[Any, UUID] | None,
    ) -> Sequence[tuple[Any, Doctor]]:
        """Each doctor with its key in the sort's order; `after` is the key and the id of the last one already seen.

        `asking` is an admin who wants more than everyone may see.
        """
        values = wanted.values()
        statement = doctors.statement(sort, tuple(values), after is not None, wanted.status)
        if after is not None:
            values |= {"key": after[0], "id": after[1]}
        async with self._database.connection() as connection:
            if asking is not None:
                _check_caller(asking, await _get_caller_now.fetchrow(connection, **_caller_values(asking)))
            rows = await statement.fetch(connection, **values, limit=limit)
        return [(row["key"], Doctor(**{name: row[name] for name in doctors.PROFILE_NAMES})) for row in rows]

    async def get_patient(self, principal: Principal, id: UUID) -> Patient:
        row = await self._database.fetchrow(_get_patient, **_seen_by(principal, id))
        if row is None:
            raise NotFound
        return Patient(**row)

    async def list_patients(
        self, principal: Principal, filters: dict[str, str], *, limit: int, before: UUID | None
    ) -> Sequence[Patient]:
        values: dict[str, Any] = dict(filters)
        statement = patient_list_statement(tuple(values), before is not None)
        if before is not None:
            values["id"] = before
        async with self._database.connection() as connection:
            _check_caller(principal, await _get_caller_now.fetchrow(connection, **_caller_values(principal)))
            rows = await statement.fetch(connection, **values, limit=limit)
        return [Patient(**row) for row in rows]

    async def get_own(self, principal: Principal) -> OwnAccount:
        row = await self._database.fetchrow(_get_own, id=principal.id)
        if row is None:
            raise NotFound
        kind = KINDS[row["role"]]
        return kind(**{name: row[name] for name in kind.__struct_fields__})

    async def get_state(self, id: UUID) -> UserState:
        row = await self._database.fetchrow(_get_state, id=id)
        if row is None:
            raise NotFound
        return UserState(**row)


class UserRepository:
    """The rows of accounts, to be changed in the transaction of `session`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def check_caller(self, principal: Principal) -> None:
        """Ask after the lock is taken, so that a suspension or revocation that committed meanwhile is seen."""
        _check_caller(principal, (await self._session.execute(_get_caller, _caller_values(principal))).one_or_none())

    async def own_for_update(self, principal: Principal) -> User:
        """The caller's account, as long as its session and status allow to change it."""
        user = await self._get_for_update(users.id == _id, {"id": principal.id})
        await self.check_caller(principal)
        return user

    async def doctor_for_update(self, principal: Principal, id: UUID) -> User:
        return await self._get_for_update(_visible_doctor, _seen_by(principal, id))

    async def patient_for_update(self, principal: Principal, id: UUID) -> User:
        return await self._get_for_update(_visible_patient, _seen_by(principal, id))

    async def add(self, user: User) -> None:
        self._session.add(user)
        await self._session.flush()

    async def announce(self, event: UserChange) -> None:
        """Write the change and, beside it, the event that tells of it."""
        await self._session.flush()
        values = event_values(
            event, event_id=uuid7(), aggregatetype="user", aggregateid=event.user.id, version=event.user.version
        )
        await self._session.execute(_append, values)

    async def _get_for_update(self, condition: Any, values: dict[str, Any]) -> User:
        user = await self._session.scalar(sa.select(User).where(condition).with_for_update(), values)
        if user is None:
            raise NotFound
        return user


def shown(kind: type[A], user: User) -> A:
    """All of an account, as for its owner."""
    fields = {name: getattr(user, name) for name in kind.__struct_fields__}
    if user.consultation_fee is not None:
        fields["consultation_fee"] = f"{user.consultation_fee:.2f}"
    return kind(**fields)


def state_of(user: User) -> UserState:
    return UserState(
        id=user.id,
        full_name=user.fullname,
        role=Role(user.role),
        status=UserStatus(user.status),
        time_zone=user.time_zone,
        locale=user.locale,
        email=user.email,
        version=user.version,
        erased=user.erased_at is not None,
        email_verified=user.email_verified_at is not None,
    )
