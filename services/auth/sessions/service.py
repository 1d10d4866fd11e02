import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from services.auth.audit.repository import AuditRepository
from services.auth.database import Transactions
from services.auth.errors import (
    InvalidCredentials,
    InvalidOtp,
    InvalidRefreshToken,
    LoginSuspended,
    MfaRequired,
    MfaSetupRequired,
)
from services.auth.mfa.service import MfaService
from services.auth.models import RefreshToken, Session, User
from services.auth.sessions.devices import DeviceTokens
from services.auth.sessions.reads import SessionReads
from services.auth.sessions.refusals import RefusedLogins
from services.auth.sessions.repository import SessionRepository
from services.auth.sessions.schemas import Login, SignedIn
from services.auth.sessions.tokens import AccessTokens, hash_of, new_refresh_token, successor_of
from services.auth.throttles.service import Attempt, Throttles
from services.auth.users.passwords import Match, Passwords
from services.auth.users.repository import UserRepository, schema_of
from services.auth.users.schemas import KINDS
from services.contracts.enums import Role, UserStatus
from services.kit.auth import Principal
from services.kit.errors import NotFound, ProblemError, TooManyRequests
from services.kit.trail.entry import entry
from services.kit.trail.tables import AuditTrail

# A client whose answer was lost sends the same token again; later than this, a thief does.
_GRACE = timedelta(seconds=10)
_USER_AGENT_LENGTH = 200


class SessionService:
    def __init__(
        self,
        transactions: Transactions,
        session_reads: SessionReads,
        passwords: Passwords,
        access_tokens: AccessTokens,
        devices: DeviceTokens,
        throttles: Throttles,
        mfa: MfaService,
        audit: AuditTrail,
        lifetime: timedelta,
        *,
        events_committed: Callable[[], None],
    ) -> None:
        self._transactions, self._session_reads, self._passwords = transactions, session_reads, passwords
        self._access_tokens, self._devices, self._throttles = access_tokens, devices, throttles
        self._mfa, self._audit, self._lifetime = mfa, audit, lifetime
        self._events_committed = events_committed
        self._refusals = RefusedLogins()

    async def login(self, data: Login, user_agent: str | None, *roles: Role) -> SignedIn:
        """Open a session for an account of one of `roles`, or of any role if none is given."""
        while True:
            with suppress(_Overtaken):
                return await self._login(data, user_agent, *roles)

    async def _login(self, data: Login, user_agent: str | None, *roles: Role) -> SignedIn:
        found = await self._session_reads.find_login(data.email)
        user_id, role, known = found or (None, None, None)
        device = data.device_token
        if device is not None and not (user_id and known and self._devices.knows(device, user_id, known)):
            device = None
        attempt = self._throttles.login(data.email, device)
        await self._check(attempt, user_id)
        # An unknown address, another role and a wrong password get the same answer after the same work.
        match = await self._passwords.verify(known, data.password)
        if user_id is None or known is None or not match or (roles and role not in roles):
            await attempt.count()
            await self._audit.add(_failed(user_id, InvalidCredentials))
            raise InvalidCredentials
        await self._check(attempt, user_id)  # once more, to count the guesses made at the same time
        is_outdated = match is Match.AS_TYPED or self._passwords.is_outdated(known)
        renewed = await self._passwords.hash(data.password) if is_outdated else None
        refresh_token = new_refresh_token()
        by_otp = None if data.otp is None else self._throttles.otp(user_id)
        if by_otp is not None:
            await by_otp.count()  # before the code is compared, so that concurrent guesses count as well
        try:
            async with self._transactions.begin() as transaction:
                sessions = SessionRepository(transaction)
                user = await sessions.get_user_for_login(user_id)
                if user.password_hash != known:
                    raise _Overtaken
                _check_status(user)
                await self._mfa.check_set_up(transaction, user)
                await self._mfa.check_login(transaction, user_id, data.otp)
                if renewed is not None:
                    await sessions.replace_password_hash(user_id, known, renewed)
                session = Session(
                    user_id=user_id,
                    successor_key=secrets.token_bytes(32),
                    user_agent=user_agent and user_agent[:_USER_AGENT_LENGTH],
                )
                await sessions.open(session, self._lifetime, hash_of(refresh_token))
                await AuditRepository(transaction).record(_succeeded(user, session))
        except (LoginSuspended, MfaSetupRequired, MfaRequired, InvalidOtp) as refusal:
            await self._audit.add(_failed(user_id, type(refusal)))  # the transaction was rolled back
            raise
        if by_otp is not None:
            await by_otp.forget()
        await attempt.forget()
        signed_in = self._signed_in(user, session, refresh_token)
        if device is None or renewed is not None:
            device = self._devices.issue(user_id, renewed or known)
        return replace(signed_in, device_token=device)

    async def _check(self, attempt: Attempt, user_id: UUID | None) -> None:
        try:
            await attempt.check()
        except TooManyRequests as refusal:
            if self._refusals.is_worth_an_entry(user_id):
                await self._audit.add(
                    entry("login.throttled", target_type="user", target_id=user_id, code=refusal.code)
                )
            raise

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Replace the token by its successor. If a spent token comes back, it or its successor was stolen."""
        async with self._transactions.begin() as transaction:
            sessions = SessionRepository(transaction)
            token = await sessions.find_token_for_update(hash_of(refresh_token))
            if token is None or (live := await sessions.find_live(token.session_id)) is None:
                raise InvalidRefreshToken
            session, user = live
            _check_status(user)
            await self._mfa.check_set_up(transaction, user)
            successor = successor_of(refresh_token, session.successor_key)
            if token.rotated_at is None:
                await sessions.spend(token, session)
                await sessions.add_token(session.id, hash_of(successor))
                is_reused = False
            else:
                is_reused = not await self._is_retry(sessions, token, successor)
                if is_reused:
                    await sessions.revoke(user.id, session=session.id)
        if is_reused:  # raise after the commit, because an error inside would roll the revocation back
            self._events_committed()
            raise InvalidRefreshToken
        return self._signed_in(user, session, successor)

    async def logout(self, principal: Principal) -> None:
        """End the caller's session. A client that did not get the answer may repeat it."""
        async with self._transactions.begin() as transaction:
            await SessionRepository(transaction).revoke(principal.id, session=principal.session_id, actor=principal)
        self._events_committed()

    async def end(self, principal: Principal, session_id: UUID) -> None:
        async with self._transactions.begin() as transaction:
            await UserRepository(transaction).check_caller(principal)
            if not await SessionRepository(transaction).revoke(principal.id, session=session_id, actor=principal):
                raise NotFound
        self._events_committed()

    @staticmethod
    async def _is_retry(sessions: SessionRepository, token: RefreshToken, successor: str) -> bool:
        """Tell a retry from a theft: it comes within the grace period, and nobody has used the successor yet."""
        return await sessions.rotated_within(token, _GRACE) and not await sessions.is_spent(hash_of(successor))

    def _signed_in(self, user: User, session: Session, refresh_token: str) -> SignedIn:
        return SignedIn(
            access_token=self._access_tokens.issue(user.id, Role(user.role), session.id),
            refresh_token=refresh_token,
            expires_in=self._access_tokens.seconds,
            user=schema_of(KINDS[user.role], user),
        )


def _succeeded(user: User, session: Session) -> dict[str, Any]:
    return entry(
        "login.succeeded",
        actor_id=user.id,
        actor_role=user.role,
        session_id=session.id,
        target_type=user.role.lower(),
        target_id=user.id,
    )


def _failed(user_id: UUID | None, refusal: type[ProblemError]) -> dict[str, Any]:
    """Return the entry of a failed login: its actor is unknown, and its target too if the address has no account."""
    return entry("login.failed", target_type="user", target_id=user_id, code=refusal.code)


class _Overtaken(Exception):
    """The hash was renewed, or the password changed, while the given password was compared with the old hash."""


def _check_status(user: User) -> None:
    if user.status == UserStatus.SUSPENDED:
        raise LoginSuspended
