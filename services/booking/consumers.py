import asyncio

from services.booking.appointments.system_cancellations import SystemCancellations
from services.booking.directory.ended_sessions import EndedSessionRepository
from services.booking.directory.repository import UserRepository
from services.booking.erasure import Erasure
from services.contracts.events import MailRequested, SessionRevoked, UserErased, UserEvent, UserSuspended
from services.kit.postgres.database import Database
from services.kit.streams.events import Envelope

# Of the pool's twenty connections, so that a backlog leaves most of them to requests.
_AT_ONCE = 4


class UserConsumer:
    """Applies auth's events: to the projection of users, ended sessions, appointments of suspended doctors, erasure."""

    def __init__(self, database: Database) -> None:
        self._users, self._sessions = UserRepository(database), EndedSessionRepository(database)
        self._cancellations, self._erasure = SystemCancellations(database), Erasure(database)
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def handle(self, envelope: Envelope[UserEvent]) -> None:
        """Apply an event, however often and in whatever order events arrive.

        A suspension that is delivered again, or after a later one, cancels nothing.
        """
        event = envelope.event
        if isinstance(event, MailRequested):
            return  # for notification
        async with self._slots:
            if isinstance(event, SessionRevoked):
                await self._sessions.add(event)
                return
            await self._users.store(event.user)
            if isinstance(event, UserErased):
                await self._erasure.forget(event.user)
            elif isinstance(event, UserSuspended):
                if event.on_conflict == "cancel" and await self._users.is_newly_suspended(event.user):
                    await self._cancellations.cancel_upcoming_of_doctor(event.user.id)
                await self._users.settle_suspension(event.user)
