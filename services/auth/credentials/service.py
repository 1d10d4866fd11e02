import asyncio
from collections.abc import Callable
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.accounts.current_password import CurrentPassword
from services.auth.accounts.passwords import Passwords, refuse_common
from services.auth.accounts.repository import UserRepository, state_of
from services.auth.audit.repository import AuditRepository
from services.auth.clients import Client
from services.auth.credentials.links import LinkTokens
from services.auth.credentials.repository import CredentialReads, MailRepository, content
from services.auth.credentials.schemas import PasswordChange, PasswordResetConfirmation, PasswordResetDone
from services.auth.database import Transactions
from services.auth.errors import EmailVerified, InvalidLink, WrongPassword
from services.auth.mfa.repository import FactorRepository
from services.auth.models import User
from services.auth.sessions.devices import DeviceTokens
from services.auth.sessions.repository import SessionRepository
from services.auth.throttles.service import Throttles
from services.contracts.enums import MailKind
from services.contracts.events import UserUpdated
from services.contracts.mails import Mail
from services.kit.auth import Principal
from services.kit.errors import NotFound

# Longer than the work takes, which is a little more where there is an account.
_RESET_SECONDS = 0.25


class CredentialService:
    def __init__(
        self,
        transactions: Transactions,
        reads: CredentialReads,
        passwords: Passwords,
        current_password: CurrentPassword,
        links: LinkTokens,
        devices: DeviceTokens,
        throttles: Throttles,
        *,
        events_committed: Callable[[], None],
    ) -> None:
        self._transactions, self._reads, self._passwords, self._links = transactions, reads, passwords, links
        self._devices, self._throttles = devices, throttles
        self._current_password, self._events_committed = current_password, events_committed

    async def change_password(self, principal: Principal, data: PasswordChange) -> None:
        """Ends the caller's other sessions."""
        checked = await self._current_password.check(principal, data.current_password)
        refuse_common(data.password, checked.email)
        password_hash = await self._passwords.hash(data.password)
        async with self._transactions.begin() as transaction:
            users = UserRepository(transaction)
            user = await users.own_for_update(principal)
            if user.password_hash != checked.known:
                raise WrongPassword  # it was changed meanwhile
            user.password_hash = password_hash
            await SessionRepository(transaction).revoke(user.id, but=principal.session_id, actor=principal)
            await MailRepository(transaction).void(user.id)
            await AuditRepository(transaction).tell("password.changed", user, principal)
        await checked.attempt.forget()
        self._events_committed()

    async def request_reset(self, email: str, client: Client) -> None:
        """Takes the same time, and does the same, whether or not the address has an account."""
        await self._throttles.reset(email, client).count()
        await asyncio.gather(self._reads.request_reset(email), asyncio.sleep(_RESET_SECONDS))
        self._events_committed()

    async def reset_password(self, data: PasswordResetConfirmation, client: Client) -> PasswordResetDone:
        """End all sessions and verify the address, which the reader of the mail has proved to have.

        The reader becomes a known device: an attacker who keeps guessing would otherwise hold the account's pause
        for ever. If the address was never verified, someone else may have signed up with it, so that account's
        one-time codes end too.
        """
        mail_id = self._links.mail_of(data.token)
        # Looked at before the expensive hash, and used in the transaction.
        mail = mail_id and await self._reads.find_mail(mail_id)
        if mail_id is None or not mail or mail["kind"] != MailKind.PASSWORD_RESET:
            raise InvalidLink
        refuse_common(data.password, mail["email"])
        password_hash = await self._passwords.hash(data.password)
        async with self._transactions.begin() as transaction:
            mails = MailRepository(transaction)
            user = await mails.use(mail_id, MailKind.PASSWORD_RESET)
            if user is None:
                raise InvalidLink
            user.password_hash = password_hash
            if user.email_verified_at is None:
                await FactorRepository(transaction).remove(user.id)
            await _prove_address(transaction, user)
            await SessionRepository(transaction).revoke(user.id)
            await mails.void(user.id)
            await AuditRepository(transaction).tell("password.reset", user)
        await self._throttles.login(user.email, None, client).forget()
        self._events_committed()
        return PasswordResetDone(device_token=self._devices.issue(user.id, password_hash))

    async def request_verification(self, principal: Principal) -> None:
        await self._throttles.verification(principal.id).count()
        async with self._transactions.begin() as transaction:
            user = await UserRepository(transaction).own_for_update(principal)
            if user.email_verified_at is not None:
                raise EmailVerified
            await MailRepository(transaction).request_verification(user)
        self._events_committed()

    async def verify_email(self, token: str) -> None:
        mail_id = self._links.mail_of(token)
        if mail_id is None:
            raise InvalidLink
        async with self._transactions.begin() as transaction:
            user = await MailRepository(transaction).use(mail_id, MailKind.VERIFY_EMAIL)
            if user is None:
                raise InvalidLink
            await _prove_address(transaction, user)
            await AuditRepository(transaction).tell("email.verified", user)
        self._events_committed()

    async def get_mail(self, id: UUID) -> Mail:
        """With its secret, which is made anew each time: for notification, just before it sends."""
        fields = await self._reads.find_mail(id)
        if fields is None:
            raise NotFound
        return content(fields, self._links.token_of(id))


async def _prove_address(transaction: AsyncSession, user: User) -> None:
    """Note that the user has read a mail to this address, and tell the other services the first time."""
    if user.email_verified_at is None:
        user.email_verified_at = sa.func.now()
        user.version += 1
        await UserRepository(transaction).announce(UserUpdated(user=state_of(user)))
