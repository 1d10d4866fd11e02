from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from services.auth.accounts.schemas import DoctorSignUp, DoctorUpdate, PatientSignUp, PatientUpdate
from services.auth.accounts.upcoming import UpcomingAppointments
from services.auth.audit.repository import AuditRepository
from services.auth.database import Transactions
from services.auth.errors import EmailTaken, WrongPassword
from services.auth.mails.repository import MailRepository
from services.auth.models import User
from services.auth.sessions.repository import SessionRepository
from services.auth.throttles.service import Throttles
from services.auth.users.current_password import CurrentPassword
from services.auth.users.passwords import Passwords, refuse_common
from services.auth.users.reads import IS_VISIBLE_DOCTOR, IS_VISIBLE_PATIENT, visible_to
from services.auth.users.repository import UserRepository, schema_of, state_of
from services.auth.users.schemas import Doctor, Patient
from services.contracts.enums import MailKind, Role, UserStatus
from services.contracts.events import UserApproved, UserRegistered, UserSuspended
from services.kit.auth import Principal
from services.kit.errors import BadRequest, FieldError, Forbidden

OnConflict = Literal["keep", "cancel"]


class AccountService:
    def __init__(
        self,
        transactions: Transactions,
        passwords: Passwords,
        upcoming: UpcomingAppointments,
        throttles: Throttles,
        current_password: CurrentPassword,
        *,
        doctors_start_as: UserStatus,
        events_committed: Callable[[], None],
    ) -> None:
        self._transactions, self._passwords, self._upcoming = transactions, passwords, upcoming
        self._throttles, self._current_password = throttles, current_password
        self._doctors_start_as = doctors_start_as
        self._events_committed = events_committed

    async def sign_up_doctor(self, data: DoctorSignUp) -> Doctor:
        return schema_of(Doctor, await self._register(data, role=Role.DOCTOR, status=self._doctors_start_as))

    async def sign_up_patient(self, data: PatientSignUp) -> Patient:
        return schema_of(Patient, await self._register(data, role=Role.PATIENT, status=UserStatus.ACTIVE))

    async def update_doctor(self, principal: Principal, id: UUID, data: DoctorUpdate) -> Doctor:
        known_hash = await self._checked_password_hash(principal, id, data)
        async with self._change() as users:
            doctor = await users.get_for_update(IS_VISIBLE_DOCTOR, visible_to(principal, id))
            await users.check_caller(principal)
            if principal.id != id and principal.role != Role.ADMIN:
                raise Forbidden
            await _update(users.session, principal, doctor, data, known_hash)
        return schema_of(Doctor, doctor)

    async def update_patient(self, principal: Principal, id: UUID, data: PatientUpdate) -> Patient:
        known_hash = await self._checked_password_hash(principal, id, data)
        async with self._change() as users:
            patient = await users.get_for_update(IS_VISIBLE_PATIENT, visible_to(principal, id))
            await users.check_caller(principal)
            await _update(users.session, principal, patient, data, known_hash)
        return schema_of(Patient, patient)

    async def approve(self, principal: Principal, id: UUID) -> Doctor:
        async with self._change() as users:
            doctor = await users.get_for_update(IS_VISIBLE_DOCTOR, visible_to(principal, id))
            await users.check_caller(principal)
            if doctor.status != UserStatus.ACTIVE:
                doctor.status = UserStatus.ACTIVE
                doctor.version += 1
                await users.announce(UserApproved(user=state_of(doctor)))
                await AuditRepository(users.session).tell("doctor.approved", doctor, principal)
        return schema_of(Doctor, doctor)

    async def suspend(self, principal: Principal, id: UUID, on_conflict: OnConflict | None) -> Doctor:
        """Suspend the doctor; without `on_conflict`, refuse if there are upcoming appointments.

        An appointment booked between that question and the suspension is kept.
        """
        if on_conflict is None:
            async with self._change() as users:
                doctor = await users.get_for_update(IS_VISIBLE_DOCTOR, visible_to(principal, id))
                await users.check_caller(principal)
            if doctor.status != UserStatus.SUSPENDED:
                await self._upcoming.refuse(Role.DOCTOR, id)
        async with self._change() as users:
            doctor = await users.get_for_update(IS_VISIBLE_DOCTOR, visible_to(principal, id))
            await users.check_caller(principal)
            if doctor.status != UserStatus.SUSPENDED:
                doctor.status = UserStatus.SUSPENDED
                doctor.version += 1
                await users.announce(UserSuspended(user=state_of(doctor), on_conflict=on_conflict or "keep"))
                await AuditRepository(users.session).tell("doctor.suspended", doctor, principal)
        return schema_of(Doctor, doctor)

    async def _register(self, data: DoctorSignUp | PatientSignUp, *, role: Role, status: UserStatus) -> User:
        values = _columns(data)
        refuse_common(data.password, data.email)
        # Count every attempt, because a refusal tells that the address has an account.
        await self._throttles.sign_up(data.email).count()
        # Hash before the transaction, so that no connection is held while the hash waits for a core.
        password_hash = await self._passwords.hash(values.pop("password"))
        user = User(id=uuid7(), role=role, status=status, version=1, password_hash=password_hash, **values)
        async with self._change() as users:
            await users.add(user)
            await users.announce(UserRegistered(user=state_of(user)))
            await MailRepository(users.session).request(user, MailKind.VERIFY_EMAIL, user.email)
            await AuditRepository(users.session).tell("account.created", user)
        return user

    async def _checked_password_hash(self, principal: Principal, id: UUID, data: PatientUpdate) -> str | None:
        """Return the hash that the caller's current password fits, if the change needs that password."""
        if data.email is UNSET or principal.id != id:
            return None
        if data.current_password is UNSET:
            raise BadRequest(errors=[FieldError("currentPassword", "Required to change the e-mail address")])
        checked = await self._current_password.check(principal, data.current_password)
        # Count every attempt: each sends a mail, and a refusal tells that the address has an account.
        await self._throttles.verification(principal.id).count()
        await checked.attempt.forget()
        return checked.password_hash

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[UserRepository]:
        async with self._transactions.begin() as transaction:
            yield UserRepository(transaction)
        self._events_committed()


async def _update(
    transaction: AsyncSession, principal: Principal, user: User, data: PatientUpdate, known_hash: str | None
) -> None:
    values = _columns(data)
    values.pop("current_password", None)
    email = values.pop("email", user.email)
    if email != user.email:
        if principal.id != user.id:
            raise Forbidden("Only the account's owner changes its e-mail address")
        if user.password_hash != known_hash:
            raise WrongPassword  # the password was changed meanwhile
        await _request_address(transaction, principal, user, email)
    elif data.email is not UNSET and user.pending_email is not None:
        user.pending_email = None
        await AuditRepository(transaction).tell("email.change_cancelled", user, principal)
    changed = {name: value for name, value in values.items() if getattr(user, name) != value}
    if not changed:
        return
    for name, value in changed.items():
        setattr(user, name, value)
    await UserRepository(transaction).announce_update(user)
    await AuditRepository(transaction).tell("account.changed", user, principal)


async def _request_address(transaction: AsyncSession, principal: Principal, user: User, email: str) -> None:
    """Note the address that the account gets when a link mailed to it is followed.

    A thief of the session and the password could otherwise lock the owner out: until then the old address signs in and
    resets the password.
    """
    if await transaction.scalar(sa.select(User.id).where(User.email == email)) is not None:
        raise EmailTaken
    user.pending_email = email
    mails = MailRepository(transaction)
    await mails.void(user.id, MailKind.PASSWORD_RESET, MailKind.VERIFY_EMAIL)
    await mails.request(user, MailKind.VERIFY_EMAIL, email)
    await mails.notify(user, MailKind.EMAIL_CHANGED)
    await SessionRepository(transaction).revoke(user.id, except_session=principal.session_id, actor=principal)
    await AuditRepository(transaction).tell("email.change_requested", user, principal)


def _columns(data: DoctorSignUp | PatientSignUp | PatientUpdate) -> dict[str, Any]:
    """Return the fields that are present, by column."""
    values = {name: value for name in data.__struct_fields__ if (value := getattr(data, name)) is not UNSET}
    if "time_zone" in values:
        values["time_zone_chosen"] = values["time_zone"] is not None
        values["time_zone"] = values["time_zone"] or "UTC"
    if (fee := values.get("consultation_fee")) is not None:
        values["consultation_fee"] = Decimal(fee)
    return values
