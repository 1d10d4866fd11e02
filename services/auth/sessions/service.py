import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from services.auth.accounts.passwords import Passwords
from services.auth.accounts.repository import UserRepository, shown
from services.auth.accounts.schemas import KINDS
from services.auth.audit.repository import AuditRepository
from services.auth.clients import Client
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
from services.auth.sessions.refusals import RefusedLogins
from services.auth.sessions.repository import LoginRepository, SessionRepository
from services.auth.sessions.schemas import Login, SignedIn
from services.auth.sessions.tokens import AccessTokens, hash_of, new_refresh_token, successor_of
from services.auth.throttles.service import Attempt, Throttles
from services.contracts.enums import Role, UserStatus
from services.kit.auth import Principal
from services.kit.errors import NotFound, ProblemError, TooManyRequests
from services.kit.trail.entry import entry
from services.kit.trail.tables import AuditTrail

# A client whose answer was lost asks again with the token it has; later than this it is not the client.
_GRACE = timedelta(seconds=10)
_USER_AGENT_LENGTH = 200


class SessionService:
    def __init__(
        self,
        transactions: Transactions,
        logins: LoginRepository,
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
        self._transactions, self._logins, self._passwords = transactions, logins, passwords
        self._access_tokens, self._devices, self._throttles = access_tokens, devices, throttles
        self._mfa, self._audit, self._lifetime = mfa, audit, lifetime
        self._events_committed = events_committed
        self._refusals = RefusedLogins()

    async def login(self, data: Login, client: Client, *roles: Role) -> SignedIn:
        """Open a session for an account of one of `roles`, any role when none is named."""
        while True:
            with suppress(_Overtaken):
                return await self._login(data, client, *roles)

    async def _login(self, data: Login, client: Client, *roles: Role) -> SignedIn:
        found = await self._logins.find(data.email)
        user_id, role, known = found or (None, None, None)
        device = data.device_token
        if device is not None and not (user_id and known and self._devices.knows(device, user_id, known)):
            device = None
        attempt = self._throttles.login(data.email, device, client)
        await self._check(attempt, user_id)
        # Unknown, of another kind or with a wrong password: the same answer after the same work.
        matches = await self._passwords.verify(known, data.password)
        if user_id is None or known is None or not matches or (roles and role not in roles):
            await attempt.count()
            await self._audit.add(_failed(user_id, InvalidCredentials))
            raise InvalidCredentials
        await self._check(attempt, user_id)  # again: the guesses that were made at the same time count
        renewed = await self._passwords.hash(data.password) if self._passwords.is_outdated(known) else None
        refresh_token = new_refresh_token()
        by_otp = None if data.otp is None else self._throttles.otp(user_id)
        if by_otp is not None:
            await by_otp.count()  # before the code is looked at: so many are answered, however many come at once
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
                    user_agent=client.user_agent and client.user_agent[:_USER_AGENT_LENGTH],
                )
                await sessions.add(session, self._lifetime, hash_of(refresh_token))
                await AuditRepository(transaction).add(_succeeded(user, session))
        except (LoginSuspended, MfaSetupRequired, MfaRequired, InvalidOtp) as refusal:
            await self._audit.add(_failed(user_id, type(refusal)))  # its own transaction is undone
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
        """Spend the token for its successor. A spent one that comes back was stolen, or its successor was."""
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
                    await sessions.revoke(user.id, only=session.id)
        if is_reused:  # raised after the commit: an error inside would take the revocation back
            self._events_committed()
            raise InvalidRefreshToken
        return self._signed_in(user, session, successor)

    async def logout(self, principal: Principal) -> None:
        """Once more changes nothing, for a client that did not get the answer."""
        async with self._transactions.begin() as transaction:
            await SessionRepository(transaction).revoke(principal.id, only=principal.session_id, actor=principal)
        self._events_committed()

    async def end(self, principal: Principal, session_id: UUID) -> None:
        async with self._transactions.begin() as transaction:
            await UserRepository(transaction).check_caller(principal)
            if not await SessionRepository(transaction).revoke(principal.id, only=session_id, actor=principal):
                raise NotFound
        self._events_committed()

    @staticmethod
    async def _is_retry(sessions: SessionRepository, token: RefreshToken, successor: str) -> bool:
        """Within the grace period, and only until somebody has used the successor."""
        return await sessions.rotated_within(token, _GRACE) and not await sessions.is_spent(hash_of(successor))

    def _signed_in(self, user: User, session: Session, refresh_token: str) -> SignedIn:
        return SignedIn(
            access_token=self._access_tokens.issue(user.id, Role(user.role), session.id),
            refresh_token=refresh_token,
            expires_in=self._access_tokens.seconds,
            user=shown(KINDS[user.role], user),
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
    """By nobody known; of an account where the address has one, which makes no difference in time."""
    return entry("login.failed", target_type="user", target_id=user_id, code=refusal.code)


class _Overtaken(Exception):
    """The hash was renewed, or the password changed, while the one given was compared with the old one."""


def _check_status(user: User) -> None:
    if user.status == UserStatus.SUSPENDED:
        raise LoginSuspended
