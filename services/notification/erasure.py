"""Erasure of a user. Notifications store no names, so that the projection without the name is most of it."""

from services.contracts.events import UserState
from services.notification.dead_letters.repository import DeadLetterRepository
from services.notification.delivery.repository import DeliveryRepository
from services.notification.directory.repository import UserRepository
from services.notification.notifying.repository import NotificationRepository
from services.notification.repository import Store


class Erasure:
    def __init__(self, store: Store) -> None:
        self._users, self._notifications = UserRepository(store), NotificationRepository(store)
        self._deliveries, self._dead_letters = DeliveryRepository(store), DeadLetterRepository(store)

    async def forget(self, user: UserState) -> None:
        """Forget a user whose `user` holds placeholders by now. Repeating it has no further effect."""
        await self._users.put(user)
        await self._deliveries.forget(user.id)
        await self._notifications.forget(user.id)
        await self._dead_letters.forget(user.id)
