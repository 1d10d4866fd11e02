from collections.abc import Callable
from datetime import UTC, datetime

from msgspec.structs import replace

from services.auth.accounts.upcoming import UpcomingAppointments
from services.auth.audit.repository import AuditRepository
from services.auth.database import Transactions
from services.auth.erasure import Erasure
from services.auth.errors import WrongPassword
from services.auth.mfa.service import MfaService
from services.auth.profile.reads import OwnTrailReads
from services.auth.profile.schemas import OwnData
from services.auth.sessions.reads import SessionReads
from services.auth.sessions.repository import SessionRepository
from services.auth.throttles.service import Throttles
from services.auth.users.current_password import CurrentPassword
from services.auth.users.reads import UserReads
from services.auth.users.repository import UserRepository, state_of
from services.contracts.enums import Role
from services.contracts.events import UserErased
from services.kit.auth import Principal
from services.kit.trail.entry import entry
from services.kit.trail.tables import AuditTrail

_SESSIONS = 1_000


class ProfileService:
    """A user's rights by law: to get their data, and to be forgotten."""

    def __init__(
        self,
        transactions: Transactions,
        user_reads: UserReads,
        session_reads: SessionReads,
        own_trail_reads: OwnTrailReads,
        audit: AuditTrail,
        current_password: CurrentPassword,
        mfa: MfaService,
        throttles: Throttles,
        upcoming: UpcomingAppointments,
        *,
        events_committed: Callable[[], None],
    ) -> None:
        self._transactions, self._user_reads, self._session_reads = transactions, user_reads, session_reads
        self._own_trail_reads, self._audit, self._current_password = own_trail_reads, audit, current_password
        self._mfa, self._throttles, self._upcoming = mfa, throttles, upcoming
        self._events_committed = events_committed

    async def export(self, principal: Principal) -> OwnData:
        account = await self._user_reads.get_own(principal)
        await self._audit.add(
            entry("account.exported", actor=principal, target_type=principal.role.lower(), target_id=principal.id)
        )
        return OwnData(
            exported_at=datetime.now(UTC),
            account=account,
            sessions=list(await self._session_reads.list(principal, limit=_SESSIONS, before=None)),
            # The address and session of another actor are that actor's data. A failed login has no actor and concerns
            # the owner.
            audit=[
                one if one.actor_id in (None, principal.id) else replace(one, address=None, session_id=None)
                for one in await self._own_trail_reads.list(principal)
            ],
        )

    async def erase(self, principal: Principal, password: str, otp: str | None, *, cancel: bool) -> None:
        """Erase the account; without `cancel`, refuse if there are upcoming appointments.

        Booking cancels an appointment that is booked between that question and the erasure, like all others.
        """
        checked = await self._current_password.check(principal, password)
        if not cancel:
            await self._upcoming.refuse(Role(principal.role), principal.id)
        by_otp = None if otp is None else self._throttles.otp(principal.id)
        if by_otp is not None:
            await by_otp.count()
        async with self._transactions.begin() as transaction:
            users = UserRepository(transaction)
            user = await users.own_for_update(principal)
            if user.password_hash != checked.password_hash:
                raise WrongPassword  # the password was changed meanwhile
            await self._mfa.check_own(transaction, user.id, otp)
            await SessionRepository(transaction).revoke(user.id, actor=principal)
            await AuditRepository(transaction).tell("account.erased", user, principal)
            await Erasure(transaction).forget(user)
            await users.announce(UserErased(user=state_of(user)))
        if by_otp is not None:
            await by_otp.forget()
        await checked.attempt.forget()
        self._events_committed()
