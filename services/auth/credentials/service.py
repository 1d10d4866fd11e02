import asyncio
from collections.abc import Callable
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.audit.repository import AuditRepository
from services.auth.credentials.schemas import PasswordChange, PasswordResetConfirmation, PasswordResetDone
from services.auth.database import Transactions
from services.auth.errors import EmailTaken, EmailVerified, InvalidLink, WrongPassword
from services.auth.mails.links import LinkTokens
from services.auth.mails.reads import MailReads
from services.auth.mails.repository import NOTICES, MailRepository
from services.auth.mfa.repository import FactorRepository
from services.auth.models import User
from services.auth.sessions.devices import DeviceTokens
from services.auth.sessions.repository import SessionRepository
from services.auth.throttles.service import Throttles
from services.auth.users.current_password import CurrentPassword
from services.auth.users.passwords import Passwords, refuse_common
from services.auth.users.repository import UserRepository, verify_address
from services.contracts.enums import MailKind
from services.contracts.mails import Mail
from services.kit.auth import Principal
from services.kit.errors import NotFound

# Longer than the work takes, which is slightly more for an address with an account.
_RESET_SECONDS = 0.25


class CredentialService:
    def __init__(
        self,
        transactions: Transactions,
        mail_reads: MailReads,
        passwords: Passwords,
        current_password: CurrentPassword,
        links: LinkTokens,
        devices: DeviceTokens,
        throttles: Throttles,
        *,
        events_committed: Callable[[], None],
    ) -> None:
        self._transactions, self._mail_reads, self._passwords, self._links = transactions, mail_reads, passwords, links
        self._devices, self._throttles = devices, throttles
        self._current_password, self._events_committed = current_password, events_committed

    async def change_password(self, principal: Principal, data: PasswordChange) -> None:
        """Change the caller's password and end their other sessions."""
        checked = await self._current_password.check(principal, data.current_password)
        refuse_common(data.password, checked.email)
        password_hash = await self._passwords.hash(data.password)
        async with self._transactions.begin() as transaction:
            user = await UserRepository(transaction).own_for_update(principal)
            if user.password_hash != checked.password_hash:
                raise WrongPassword  # the password was changed meanwhile
            user.password_hash = password_hash
            user.pending_email = None  # a thief may have requested it
            sessions, mails = SessionRepository(transaction), MailRepository(transaction)
            await sessions.revoke(user.id, except_session=principal.session_id, actor=principal)
            await mails.void(user.id, MailKind.PASSWORD_RESET)
            await mails.notify(user, MailKind.PASSWORD_CHANGED)
            await AuditRepository(transaction).tell("password.changed", user, principal)
        await checked.attempt.forget()
        self._events_committed()

    async def request_reset(self, email: str) -> None:
        """Request a mail; take the same time and do the same work whether or not the address has an account."""
        await self._throttles.reset(email).count()
        await asyncio.gather(self._mail_reads.request_reset(email), asyncio.sleep(_RESET_SECONDS))
        self._events_committed()

    async def reset_password(self, data: PasswordResetConfirmation) -> PasswordResetDone:
        """End all sessions and verify the address, which the reader of the mail has proved to have.

        The reader becomes a known device: an attacker who keeps guessing would otherwise hold the account's pause
        for ever. If the address was never verified, someone else may have signed up with it, so that account's
        one-time codes end too.

        The link of a notice gives back the address that it was sent to, and takes back what followed the change: newer
        links, and one-time codes that were confirmed since. Older codes stay: otherwise whoever reads the mails needs
        no codes. Every reset ends the older notices to the address that it proves, and no others: a thief who changed
        the address could otherwise end the notice that the owner got about it.
        """
        mail_id = self._links.mail_of(data.token)
        # Read the mail before the expensive hash, and spend it in the transaction.
        mail = mail_id and await self._mail_reads.find(mail_id)
        if mail_id is None or not mail or mail["kind"] not in (MailKind.PASSWORD_RESET, *NOTICES):
            raise InvalidLink
        refuse_common(data.password, mail["email"])
        password_hash = await self._passwords.hash(data.password)
        async with self._transactions.begin() as transaction:
            mails = MailRepository(transaction)
            used = await mails.use(mail_id, MailKind.PASSWORD_RESET, *NOTICES)
            if used is None:
                raise InvalidLink
            user = used.user
            user.password_hash, user.pending_email = password_hash, None
            if user.email_verified_at is None:
                await FactorRepository(transaction).remove(user.id)
            if used.kind in NOTICES:
                await _free_address(transaction, user, used.email)
                await FactorRepository(transaction).remove(user.id, confirmed_since=used.requested_at)
                await mails.void(user.id, *NOTICES, since=used.requested_at)
            await verify_address(transaction, user, used.email)
            await SessionRepository(transaction).revoke(user.id)
            await mails.void(user.id, MailKind.PASSWORD_RESET)
            await mails.void(user.id, *NOTICES, email=used.email)
            await mails.request(user, MailKind.PASSWORD_CHANGED, used.email)
            await AuditRepository(transaction).tell("password.reset", user)
        await self._throttles.login(user.email, None).forget()
        self._events_committed()
        return PasswordResetDone(device_token=self._devices.issue(user.id, password_hash))

    async def request_verification(self, principal: Principal) -> None:
        """Mail a new link to the caller's new address, or else to the one that is not verified yet."""
        await self._throttles.verification(principal.id).count()
        async with self._transactions.begin() as transaction:
            user = await UserRepository(transaction).own_for_update(principal)
            if user.email_verified_at is not None and user.pending_email is None:
                raise EmailVerified
            email = user.pending_email or user.email
            await MailRepository(transaction).request(user, MailKind.VERIFY_EMAIL, email)
        self._events_committed()

    async def verify_email(self, token: str) -> None:
        """Verify the address that the link was mailed to. Raises `EmailTaken` if it got another account meanwhile."""
        mail_id = self._links.mail_of(token)
        if mail_id is None:
            raise InvalidLink
        async with self._transactions.begin() as transaction:
            used = await MailRepository(transaction).use(mail_id, MailKind.VERIFY_EMAIL)
            if used is None:
                raise InvalidLink
            await verify_address(transaction, used.user, used.email)
        self._events_committed()

    async def get_mail(self, id: UUID) -> Mail:
        """Return a mail with its secret, made anew each time: notification asks just before it sends."""
        fields = await self._mail_reads.find(id)
        if fields is None:
            raise NotFound
        return Mail(**fields | {"kind": MailKind(fields["kind"])}, token=self._links.token_of(id))


async def _free_address(transaction: AsyncSession, user: User, email: str) -> None:
    """Take `email` from an account that never verified it: a thief may have signed up with it to keep the owner out."""
    if user.email == email:
        return
    holder = await transaction.scalar(sa.select(User).where(User.email == email).with_for_update())
    if holder is None:
        return
    if holder.email_verified_at is not None:
        raise EmailTaken
    holder.email = f"{holder.id}@displaced.invalid"
    await UserRepository(transaction).announce_update(holder)
    await SessionRepository(transaction).revoke(holder.id)
    await AuditRepository(transaction).tell("email.displaced", holder)
