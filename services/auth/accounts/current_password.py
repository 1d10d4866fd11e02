from typing import NamedTuple

from services.auth.accounts.passwords import Passwords
from services.auth.accounts.repository import AccountRepository
from services.auth.errors import WrongPassword
from services.auth.throttles.service import Attempt, Throttles
from services.kit.auth import Principal


class Checked(NamedTuple):
    """`known` is compared again in the transaction, as the password may change; then `attempt` is forgotten."""

    attempt: Attempt
    email: str
    known: str


class CurrentPassword:
    """Asked for where a session alone is not enough, because it may be a thief's."""

    def __init__(self, accounts: AccountRepository, passwords: Passwords, throttles: Throttles) -> None:
        self._accounts, self._passwords, self._throttles = accounts, passwords, throttles

    async def check(self, principal: Principal, password: str) -> Checked:
        """Raises `WrongPassword`, `TooManyRequests`, and first what is wrong with the session: one that has ended
        is no place to guess from.
        """
        email, known = await self._accounts.get_own_password(principal)
        attempt = self._throttles.password(principal.id)
        await attempt.check()
        if not await self._passwords.verify(known, password):
            await attempt.count()
            raise WrongPassword
        await attempt.check()  # again: the guesses that were made at the same time count
        return Checked(attempt, email, known)
