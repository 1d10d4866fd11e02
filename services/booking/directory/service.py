from uuid import UUID

from services.booking.directory.repository import UserRepository
from services.contracts.events import UserState
from services.kit.internal import InternalClient

_CACHE_SIZE = 50_000


class Directory:
    """The users that booking knows: from auth's events, or asked for when a request comes before the event."""

    def __init__(self, users: UserRepository, auth: InternalClient) -> None:
        self._users, self._auth = users, auth
        # Ids that have a row in the projection, where they stay. Its content is read in the transaction that needs it.
        self._known: set[UUID] = set()

    async def ensure_known(self, *user_ids: UUID) -> None:
        """Store the users that auth knows and the projection lacks. May call auth, so never inside a transaction."""
        missing = set(user_ids) - self._known
        if not missing:
            return
        known = await self._users.known(missing)
        for user_id in missing - known:
            if user := await self._auth.get(f"/internal/users/{user_id}", UserState):
                await self._users.store(user)
                known.add(user_id)
        if len(self._known) > _CACHE_SIZE:
            self._known.clear()
        self._known |= known
