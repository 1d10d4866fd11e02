import asyncio

from services.contracts.enums import UserStatus
from services.kit.auth import KnownCaller, Principal, check_caller
from services.notification.directory.repository import RevokedSessionRepository, UserRepository


class Callers:
    """Whether a caller still is who the token says: it outlives a suspension and the end of its session by minutes."""

    def __init__(self, users: UserRepository, revoked_sessions: RevokedSessionRepository) -> None:
        self._users, self._revoked_sessions = users, revoked_sessions

    async def check(self, caller: Principal) -> None:
        """Raise unless the database, asked at each call, has the caller as the token says.

        A user without a row passes: the projection has everyone who has a notification, as it was written from there.
        """
        known, session_ended = await asyncio.gather(
            self._users.find([caller.id]), self._revoked_sessions.has(caller.session_id)
        )
        user = known.get(caller.id)
        suspended = user is not None and user.status is UserStatus.SUSPENDED
        check_caller(caller, KnownCaller(user.role if user else None, suspended, session_ended))
