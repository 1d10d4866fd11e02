from typing import NamedTuple

from services.auth.errors import WrongPassword
from services.auth.throttles.service import Attempt, Throttles
from services.auth.users.passwords import Passwords
from services.auth.users.reads import UserReads
from services.kit.auth import Principal


class Checked(NamedTuple):
    """Compare `password_hash` again in the transaction, because the password may change; then forget `attempt`."""

    attempt: Attempt
    email: str
    password_hash: str


class CurrentPassword:
    """The check for changes that a session alone does not allow, because a thief may hold it."""

    def __init__(self, users: UserReads, passwords: Passwords, throttles: Throttles) -> None:
        self._users, self._passwords, self._throttles = users, passwords, throttles

    async def check(self, principal: Principal, password: str) -> Checked:
        """Raise `WrongPassword` or `TooManyRequests`, and before that whatever is wrong with the session: nobody may
        guess from one that has ended.
        """
        email, password_hash = await self._users.get_own_password(principal)
        attempt = self._throttles.password(principal.id)
        await attempt.check()
        if not await self._passwords.verify(password_hash, password):
            await attempt.count()
            raise WrongPassword
        await attempt.check()  # once more, to count the guesses made at the same time
        return Checked(attempt, email, password_hash)
