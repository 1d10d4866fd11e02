from uuid import UUID

from services.booking.directory.repository import UserRepository
from services.contracts.events import UserState
from services.kit.internal import InternalClient

_CACHE_SIZE = 50_000


class Directory:
    """Users as booking knows them: fed by auth's events, and by asking auth about somebody who is not known yet."""

    def __init__(self, users: UserRepository, auth: InternalClient) -> None:
        self._users, self._auth = users, auth
        # Who has a row in the projection keeps it. What the row says is read where it matters, in the transaction.
        self._met: set[UUID] = set()

    async def meet(self, *user_ids: UUID) -> None:
        """Sees to it that whom auth knows is known here. It may call auth: never inside a transaction."""
        strangers = set(user_ids) - self._met
        if not strangers:
            return
        met = await self._users.known(strangers)
        for user_id in strangers - met:
            if user := await self._auth.get(f"/internal/users/{user_id}", UserState):
                await self._users.store(user)
                met.add(user_id)
        if len(self._met) > _CACHE_SIZE:
            self._met.clear()
        self._met |= met
