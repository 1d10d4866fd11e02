from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from services.auth.accounts.current_password import CurrentPassword
from services.auth.accounts.passwords import Passwords, refuse_common
from services.auth.accounts.repository import UserRepository, shown, state_of
from services.auth.accounts.schemas import (
    Doctor,
    DoctorSignUp,
    DoctorUpdate,
    Patient,
    PatientSignUp,
    PatientUpdate,
)
from services.auth.audit.repository import AuditRepository
from services.auth.clients import Client
from services.auth.credentials.repository import MailRepository
from services.auth.database import Transactions
from services.auth.errors import FutureAppointments, WrongPassword
from services.auth.models import User
from services.auth.sessions.repository import SessionRepository
from services.auth.throttles.service import Throttles
from services.contracts import appointments
from services.contracts.enums import Role, UserStatus
from services.contracts.events import UserApproved, UserRegistered, UserSuspended, UserUpdated
from services.kit.auth import Principal
from services.kit.errors import BadRequest, FieldError, Forbidden, Unavailable
from services.kit.internal import InternalClient
from services.kit.zones import zone

OnConflict = Literal["keep", "cancel"]


class AccountService:
    def __init__(
        self,
        transactions: Transactions,
        passwords: Passwords,
        booking: InternalClient,
        throttles: Throttles,
        current_password: CurrentPassword,
        *,
        doctors_start_as: UserStatus,
        events_committed: Callable[[], None],
    ) -> None:
        self._transactions, self._passwords, self._booking = transactions, passwords, booking
        self._throttles, self._current_password = throttles, current_password
        self._doctors_start_as = doctors_start_as
        self._events_committed = events_committed

    async def sign_up_doctor(self, data: DoctorSignUp, client: Client) -> Doctor:
        return shown(Doctor, await self._register(data, client, role=Role.DOCTOR, status=self._doctors_start_as))

    async def sign_up_patient(self, data: PatientSignUp, client: Client) -> Patient:
        return shown(Patient, await self._register(data, client, role=Role.PATIENT, status=UserStatus.ACTIVE))

    async def update_doctor(self, principal: Principal, id: UUID, data: DoctorUpdate) -> Doctor:
        known = await self._password_checked(principal, id, data)
        async with self._transactions.begin() as session:
            users = UserRepository(session)
            doctor = await users.doctor_for_update(principal, id)
            await users.check_caller(principal)
            if principal.id != id and principal.role != Role.ADMIN:
                raise Forbidden
            await _update(session, principal, doctor, data, known)
        self._events_committed()
        return shown(Doctor, doctor)

    async def update_patient(self, principal: Principal, id: UUID, data: PatientUpdate) -> Patient:
        known = await self._password_checked(principal, id, data)
        async with self._transactions.begin() as session:
            users = UserRepository(session)
            patient = await users.patient_for_update(principal, id)
            await users.check_caller(principal)
            await _update(session, principal, patient, data, known)
        self._events_committed()
        return shown(Patient, patient)

    async def approve(self, principal: Principal, id: UUID) -> Doctor:
        async with self._change() as (users, audit):
            doctor = await users.doctor_for_update(principal, id)
            await users.check_caller(principal)
            if doctor.status != UserStatus.ACTIVE:
                doctor.status = UserStatus.ACTIVE
                doctor.version += 1
                await users.announce(UserApproved(user=state_of(doctor)))
                await audit.tell("doctor.approved", doctor, principal)
        return shown(Doctor, doctor)

    async def suspend(self, principal: Principal, id: UUID, on_conflict: OnConflict | None) -> Doctor:
        """Without `on_conflict` a doctor with visits to come stays as before.

        A visit that is booked between the question and the suspension is kept, which harms nobody.
        """
        if on_conflict is None:
            async with self._change() as (users, _):
                doctor = await users.doctor_for_update(principal, id)
                await users.check_caller(principal)
            # The transaction is over: its connection is not held while booking answers.
            if doctor.status != UserStatus.SUSPENDED:
                await self._refuse_with_appointments(id)
        async with self._change() as (users, audit):
            doctor = await users.doctor_for_update(principal, id)
            await users.check_caller(principal)
            if doctor.status != UserStatus.SUSPENDED:
                doctor.status = UserStatus.SUSPENDED
                doctor.version += 1
                await users.announce(UserSuspended(user=state_of(doctor), on_conflict=on_conflict or "keep"))
                await audit.tell("doctor.suspended", doctor, principal)
        return shown(Doctor, doctor)

    async def _register(
        self, data: DoctorSignUp | PatientSignUp, client: Client, *, role: Role, status: UserStatus
    ) -> User:
        values = _columns(data)
        refuse_common(data.password, data.email)
        # Each one counts, as a refusal tells who has an account.
        await self._throttles.sign_up(data.email, client).count()
        # Before the transaction: a connection is not held while the hash waits for a core.
        password_hash = await self._passwords.hash(values.pop("password"))
        user = User(id=uuid7(), role=role, status=status, version=1, password_hash=password_hash, **values)
        async with self._transactions.begin() as session:
            users = UserRepository(session)
            await users.add(user)
            await users.announce(UserRegistered(user=state_of(user)))
            await MailRepository(session).request_verification(user)
            await AuditRepository(session).tell("account.created", user)
        self._events_committed()
        return user

    async def _password_checked(self, principal: Principal, id: UUID, data: PatientUpdate) -> str | None:
        """The hash that the caller's current password fits, where the change needs it."""
        if data.email is UNSET or principal.id != id:
            return None
        if data.current_password is UNSET:
            raise BadRequest(errors=[FieldError("currentPassword", "Required to change the e-mail address")])
        checked = await self._current_password.check(principal, data.current_password)
        # Each one sends a mail, and may tell that an address has an account.
        await self._throttles.verification(principal.id).count()
        await checked.attempt.forget()
        return checked.known

    async def _refuse_with_appointments(self, doctor_id: UUID) -> None:
        answer = await self._booking.get(f"/internal/doctors/{doctor_id}/appointments", appointments.FutureAppointments)
        if answer is None:
            raise Unavailable("Booking did not say whether the doctor has visits to come")
        if answer.items:
            raise FutureAppointments(appointments=msgspec.to_builtins(answer.items))

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[tuple[UserRepository, AuditRepository]]:
        async with self._transactions.begin() as session:
            yield UserRepository(session), AuditRepository(session)
        self._events_committed()


async def _update(
    session: AsyncSession, principal: Principal, user: User, data: PatientUpdate, known_password: str | None
) -> None:
    values = _columns(data)
    values.pop("current_password", None)
    changed = {name: value for name, value in values.items() if getattr(user, name) != value}
    if not changed:
        return
    if "email" in changed:
        if principal.id != user.id:
            raise Forbidden("Nobody else changes somebody's e-mail address")
        if user.password_hash != known_password:
            raise WrongPassword  # it was changed meanwhile
        user.email_verified_at = None
    for name, value in changed.items():
        setattr(user, name, value)
    user.version += 1
    await UserRepository(session).announce(UserUpdated(user=state_of(user)))
    await AuditRepository(session).tell("email.changed" if "email" in changed else "account.changed", user, principal)
    if "email" in changed:
        await SessionRepository(session).revoke(user.id, but=principal.session_id, actor=principal)
        mails = MailRepository(session)
        await mails.void(user.id)
        await mails.request_verification(user)


def _columns(data: DoctorSignUp | PatientSignUp | PatientUpdate) -> dict[str, Any]:
    """What is given, by column; a zone that does not exist is a 400."""
    values = {name: value for name in data.__struct_fields__ if (value := getattr(data, name)) is not UNSET}
    if "time_zone" in values:
        zone(values["time_zone"])
    if (fee := values.get("consultation_fee")) is not None:
        values["consultation_fee"] = Decimal(fee)
    return values
