import asyncio

from services.contracts.enums import UserStatus
from services.kit.auth import Principal, SessionEnded
from services.notification.directory.repository import RevokedSessionRepository, UserRepository
from services.notification.errors import AccountSuspended


class Callers:
    """Whether a caller still is who the token says: it outlives a suspension and the end of its session by minutes."""

    def __init__(self, users: UserRepository, revoked_sessions: RevokedSessionRepository) -> None:
        self._users, self._revoked_sessions = users, revoked_sessions

    async def check(self, caller: Principal) -> None:
        """Raises `AccountSuspended` or `SessionEnded`. By the database at each call, never from a memory of its own.

        Somebody unknown passes: whoever has a notification is in the projection, which it was written from.
        """
        known, session_revoked = await asyncio.gather(
            self._users.find([caller.id]), self._revoked_sessions.has(caller.session_id)
        )
        user = known.get(caller.id)
        if user is not None and user.status is UserStatus.SUSPENDED:
            raise AccountSuspended
        if session_revoked:
            raise SessionEnded
