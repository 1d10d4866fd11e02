from uuid import UUID

from services.contracts.events import UserState
from services.notification.directory.repository import UserRepository
from services.notification.erasure.repository import ErasureRepository

_BATCH = 50


class ErasureService:
    def __init__(self, users: UserRepository, erasures: ErasureRepository) -> None:
        self._users, self._erasures = users, erasures

    async def forget(self, user: UserState) -> None:
        """Any number of times. Whatever is written about the user from now on is written without the name, as the
        projection has none; what is being written meanwhile looks again, and calls `forget_in`.
        """
        await self._users.put(user)
        after: UUID | None = None
        while batch := await self._erasures.appointments_of(user.id, after=after, limit=_BATCH):
            await self._erasures.forget(user.id, user.full_name, batch)
            after = batch[-1]
        await self._erasures.forget_dead_letters(user.id)

    async def forget_in(self, appointment_id: UUID, *people: UserState) -> None:
        """Those of an appointment's two people who are erased."""
        for user in people:
            if user.erased:
                await self._erasures.forget(user.id, user.full_name, [appointment_id])
