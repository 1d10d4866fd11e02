from uuid import UUID

from services.contracts.events import UserState
from services.contracts.mails import Mail
from services.kit.internal import InternalClient
from services.notification.directory.repository import UserRepository


class UnknownUser(Exception):
    """An event names a user whom auth does not know either."""


class Directory:
    """Looks up users in the projection, and asks auth where a user's own event has not arrived yet."""

    def __init__(self, users: UserRepository, auth: InternalClient) -> None:
        self._users, self._auth = users, auth

    async def get(self, *ids: UUID) -> list[UserState]:
        """Return users in the order of `ids`, or raise `Unavailable` while auth is needed and cannot be asked."""
        known = await self._users.find(ids)
        for user_id in ids:
            if user_id not in known:
                known[user_id] = await self._ask(user_id)
        return [known[user_id] for user_id in ids]

    async def get_verified(self, user: UserState) -> UserState:
        """Return the user as auth has it, unless the projection knows the address as verified already.

        Projections of before that field say no for everybody, and the event about a verification may be on its way.
        """
        return user if user.email_verified else await self._ask(user.id)

    async def find_mail(self, mail_id: UUID) -> Mail | None:
        """Ask auth for a mail and its secret; None when auth no longer wants it sent."""
        return await self._auth.get(f"/internal/mails/{mail_id}", Mail)

    async def _ask(self, user_id: UUID) -> UserState:
        user = await self._auth.get(f"/internal/users/{user_id}", UserState)
        if user is None:
            raise UnknownUser(f"auth knows no user {user_id}")
        await self._users.put(user)
        return user
