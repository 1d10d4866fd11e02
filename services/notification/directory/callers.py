import asyncio

from services.contracts.enums import UserStatus
from services.kit.auth import KnownCaller, Principal, check_caller
from services.notification.directory.ended_sessions import EndedSessionRepository
from services.notification.directory.repository import UserRepository


class Callers:
    def __init__(self, users: UserRepository, ended_sessions: EndedSessionRepository) -> None:
        self._users, self._ended_sessions = users, ended_sessions

    async def check(self, caller: Principal) -> None:
        """Raise unless the account and the session are still what the token says, by the database at each call.

        A user without a row passes: everyone who has a notification has one.
        """
        known, session_ended = await asyncio.gather(
            self._users.find([caller.id]), self._ended_sessions.has(caller.session_id)
        )
        user = known.get(caller.id)
        suspended = user is not None and user.status is UserStatus.SUSPENDED
        check_caller(caller, KnownCaller(user.role if user else None, suspended, session_ended))
