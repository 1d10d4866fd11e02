from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from services.auth.accounts.current_password import CurrentPassword
from services.auth.accounts.repository import AccountRepository, UserRepository, state_of
from services.auth.audit.repository import AuditRepository
from services.auth.database import Transactions
from services.auth.errors import FutureAppointments, WrongPassword
from services.auth.mfa.service import MfaService
from services.auth.profile.repository import ErasureRepository, OwnTrail
from services.auth.profile.schemas import OwnData
from services.auth.sessions.repository import LoginRepository, SessionRepository
from services.auth.throttles.service import Throttles
from services.contracts import appointments
from services.contracts.enums import Role
from services.contracts.events import UserErased
from services.kit.auth import Principal
from services.kit.errors import Unavailable
from services.kit.internal import InternalClient
from services.kit.trail.entry import entry
from services.kit.trail.tables import AuditTrail

_SESSIONS = 1_000
_PEOPLE = {Role.DOCTOR: "doctors", Role.PATIENT: "patients"}


class ProfileService:
    """What people may ask for by law: their data, and to be forgotten."""

    def __init__(
        self,
        transactions: Transactions,
        accounts: AccountRepository,
        logins: LoginRepository,
        own_trail: OwnTrail,
        audit: AuditTrail,
        current_password: CurrentPassword,
        mfa: MfaService,
        throttles: Throttles,
        booking: InternalClient,
        *,
        events_committed: Callable[[], None],
    ) -> None:
        self._transactions, self._accounts, self._logins = transactions, accounts, logins
        self._own_trail, self._audit, self._current_password = own_trail, audit, current_password
        self._mfa, self._throttles, self._booking = mfa, throttles, booking
        self._events_committed = events_committed

    async def export(self, principal: Principal) -> OwnData:
        account = await self._accounts.get_own(principal)
        await self._audit.add(
            entry("account.exported", actor=principal, target_type=principal.role.lower(), target_id=principal.id)
        )
        trail = await self._own_trail.list(principal)
        return OwnData(
            exported_at=datetime.now(UTC),
            account=account,
            sessions=list(await self._logins.list_sessions(principal, limit=_SESSIONS, before=None)),
            # Where somebody else did it from is theirs; a failed login has no actor, and concerns the owner.
            audit=[
                one if one.actor_id in (None, principal.id) else replace(one, address=None, session_id=None)
                for one in trail
            ],
        )

    async def erase(self, principal: Principal, password: str, otp: str | None, *, cancel: bool) -> None:
        """A visit that is booked between the question and the erasure is cancelled by booking, like all others."""
        checked = await self._current_password.check(principal, password)
        if not cancel:
            await self._refuse_with_visits(principal)
        by_otp = None if otp is None else self._throttles.otp(principal.id)
        if by_otp is not None:
            await by_otp.count()
        async with self._transactions.begin() as transaction:
            users = UserRepository(transaction)
            user = await users.own_for_update(principal)
            if user.password_hash != checked.known:
                raise WrongPassword  # it was changed meanwhile
            await self._mfa.check_own(transaction, user.id, otp)
            await SessionRepository(transaction).revoke(user.id, actor=principal)
            await AuditRepository(transaction).tell("account.erased", user, principal)
            await ErasureRepository(transaction).erase(user)
            await users.announce(UserErased(user=state_of(user)))
        if by_otp is not None:
            await by_otp.forget()
        await checked.attempt.forget()
        self._events_committed()

    async def _refuse_with_visits(self, principal: Principal) -> None:
        if (people := _PEOPLE.get(Role(principal.role))) is None:
            return
        answer = await self._booking.get(
            f"/internal/{people}/{principal.id}/appointments", appointments.FutureAppointments
        )
        if answer is None:
            raise Unavailable("Booking did not say whether there are visits to come")
        if answer.items:
            raise FutureAppointments(appointments=msgspec.to_builtins(answer.items))
