import asyncio

from services.booking.appointments.system_cancellations import Upkeep
from services.booking.directory.repository import UserRepository
from services.contracts.events import MailRequested, SessionRevoked, UserErased, UserEvent, UserSuspended
from services.kit.streams.events import Envelope

# Of the pool's twenty connections, so that a backlog leaves most of them to requests.
_AT_ONCE = 4


class UserConsumer:
    """Keeps the projection of users and the sessions that ended, cancels the visits of a doctor who was suspended with
    that wish, and forgets who was erased.
    """

    def __init__(self, users: UserRepository, upkeep: Upkeep) -> None:
        self._users, self._upkeep = users, upkeep
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def handle(self, envelope: Envelope[UserEvent]) -> None:
        """Any number of times and in any order: a suspension that came back, or that a later one overtook, is over."""
        event = envelope.event
        if isinstance(event, MailRequested):
            return  # for notification
        async with self._slots:
            if isinstance(event, SessionRevoked):
                await self._users.revoke_session(event)
                return
            await self._users.store(event.user)
            if isinstance(event, UserErased):
                await self._upkeep.forget(event.user)
                await self._users.forget_dead_letters(event.user.id)
                return
            if not isinstance(event, UserSuspended):
                return
            if event.on_conflict == "cancel" and await self._users.is_newly_suspended(event.user):
                await self._upkeep.cancel_visits_of(event.user.id)
            await self._users.settle_suspension(event.user)
