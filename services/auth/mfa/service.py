from collections.abc import Callable
from time import time
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.audit.repository import AuditRepository
from services.auth.database import Transactions
from services.auth.errors import (
    FactorEnabled,
    FactorMissing,
    InvalidOtp,
    MfaRequired,
    MfaSetupRequired,
    WrongOtp,
)
from services.auth.mails.repository import MailRepository
from services.auth.mfa import codes
from services.auth.mfa.codes import FactorSecrets
from services.auth.mfa.repository import FactorRepository
from services.auth.mfa.schemas import PendingFactor
from services.auth.models import SecondFactor, User
from services.auth.throttles.service import Attempt, Throttles
from services.auth.users.current_password import CurrentPassword
from services.auth.users.repository import UserRepository
from services.contracts.enums import MailKind, Role
from services.kit.auth import Principal
from services.kit.errors import Forbidden


class MfaService:
    def __init__(
        self,
        transactions: Transactions,
        current_password: CurrentPassword,
        secrets: FactorSecrets,
        throttles: Throttles,
        *,
        issuer: str,
        required_of_admins: bool,
        events_committed: Callable[[], None],
    ) -> None:
        self._transactions, self._current_password, self._secrets = transactions, current_password, secrets
        self._throttles, self._issuer, self._required_of_admins = throttles, issuer, required_of_admins
        self._events_committed = events_committed

    async def enrol(self, principal: Principal, password: str) -> PendingFactor:
        """Return a secret that counts once it is confirmed. The password keeps a session's thief from enrolling."""
        checked = await self._current_password.check(principal, password)
        secret = codes.new_secret()
        async with self._transactions.begin() as transaction:
            await UserRepository(transaction).own_for_update(principal)
            factors = FactorRepository(transaction)
            factor = await factors.find_by_user(principal.id)
            if factor is not None and factor.confirmed_at is not None:
                raise FactorEnabled
            await factors.replace(principal.id, self._secrets.encrypted(secret, principal.id))
        await checked.attempt.forget()
        return PendingFactor(secret=codes.as_text(secret), uri=codes.as_uri(secret, checked.email, self._issuer))

    async def confirm(self, principal: Principal, otp: str) -> list[str]:
        """Turn one-time codes on and return the recovery codes."""
        attempt = await self._attempt(principal.id)
        recovery_codes = codes.new_recovery_codes()
        async with self._transactions.begin() as transaction:
            user = await UserRepository(transaction).own_for_update(principal)
            factors = FactorRepository(transaction)
            factor = await factors.find_by_user(principal.id)
            if factor is None:
                raise FactorMissing
            if factor.confirmed_at is not None:
                raise FactorEnabled
            if (step := self._step(factor, otp)) is None:
                raise WrongOtp
            hashes = [self._secrets.hashes_of(code, principal.id)[0] for code in recovery_codes]
            await factors.confirm(factor, step, hashes)
            await MailRepository(transaction).notify(user, MailKind.MFA_ENABLED)
            await AuditRepository(transaction).tell("mfa.enabled", user, principal)
        await attempt.forget()
        self._events_committed()
        return recovery_codes

    async def disable(self, principal: Principal, otp: str | None) -> None:
        if self._required_of_admins and principal.role == Role.ADMIN:
            raise Forbidden("An admin needs one-time codes here")
        attempt = await self._attempt(principal.id)
        async with self._transactions.begin() as transaction:
            user = await UserRepository(transaction).own_for_update(principal)
            factors = FactorRepository(transaction)
            factor = await factors.find_by_user(principal.id)
            if factor is None:
                raise FactorMissing
            # A factor that was never confirmed protects nothing yet.
            if factor.confirmed_at is not None and not (otp and await self._takes(factors, factor, otp)):
                raise WrongOtp
            await factors.remove(principal.id)
            if factor.confirmed_at is not None:
                await MailRepository(transaction).notify(user, MailKind.MFA_DISABLED)
            await AuditRepository(transaction).tell("mfa.disabled", user, principal)
        await attempt.forget()
        self._events_committed()

    async def check_set_up(self, transaction: AsyncSession, user: User) -> None:
        """Raise `MfaSetupRequired` for an admin without one-time codes, where admins must have them."""
        if self._required_of_admins and user.role == Role.ADMIN:
            factor = await FactorRepository(transaction).find_by_user(user.id)
            if factor is None or factor.confirmed_at is None:
                raise MfaSetupRequired

    async def check_login(self, transaction: AsyncSession, user_id: UUID, otp: str | None) -> None:
        """Spend the code, in the transaction of the login, which has counted the attempt. Raises `MfaRequired` for a
        missing code and `InvalidOtp` for a wrong one.
        """
        factors = FactorRepository(transaction)
        factor = await factors.find_by_user(user_id)
        if factor is None or factor.confirmed_at is None:
            return
        if otp is None:
            raise MfaRequired
        if not await self._takes(factors, factor, otp):
            raise InvalidOtp

    async def check_own(self, transaction: AsyncSession, user_id: UUID, otp: str | None) -> None:
        """Spend the code of a caller who is signed in. Raises `WrongOtp`."""
        try:
            await self.check_login(transaction, user_id, otp)
        except (MfaRequired, InvalidOtp):
            raise WrongOtp from None

    async def _attempt(self, user_id: UUID) -> Attempt:
        """Count an attempt before the code is compared, so that concurrent guesses count as well; a success forgets
        it.
        """
        attempt = self._throttles.otp(user_id)
        await attempt.count()
        return attempt

    async def _takes(self, factors: FactorRepository, factor: SecondFactor, otp: str) -> bool:
        if (step := self._step(factor, otp)) is not None:
            factor.secret = self._secrets.reencrypted(factor.secret, factor.user_id)
            return await factors.spend_step(factor, step)
        return await factors.spend_recovery_code(factor, self._secrets.hashes_of(otp, factor.user_id))

    def _step(self, factor: SecondFactor, otp: str) -> int | None:
        secret = self._secrets.decrypted(factor.secret, factor.user_id)
        return None if secret is None else codes.step_of(otp, secret, time())
