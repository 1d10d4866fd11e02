from services.contracts.events import MailRequested, SessionRevoked, UserErased, UserEvent
from services.kit.streams.events import Envelope
from services.notification.directory.ended_sessions import EndedSessionRepository
from services.notification.directory.repository import UserRepository
from services.notification.erasure import Erasure
from services.notification.notifying.service import MailingService
from services.notification.repository import Store


class UserConsumer:
    """Applies auth's events: to the projection of users, ended sessions and erasure; takes on the mails it wants sent.

    Booking's events go to `NotifyingService.notify` directly.
    """

    def __init__(self, store: Store, mailing: MailingService) -> None:
        self._users, self._sessions = UserRepository(store), EndedSessionRepository(store)
        self._erasure, self._mailing = Erasure(store), mailing

    async def handle(self, envelope: Envelope[UserEvent]) -> None:
        """Apply an event, however often and in whatever order events arrive."""
        match envelope.event:
            case SessionRevoked() as event:
                await self._sessions.add(event)
            case UserErased() as event:
                await self._erasure.forget(event.user)
            case MailRequested() as event:
                await self._mailing.request(envelope, event)
            case event:
                await self._users.put(event.user)
