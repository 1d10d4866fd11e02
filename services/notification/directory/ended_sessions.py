"""Sessions that ended before their time, kept until the last of their access tokens has expired."""

from uuid import UUID

from pymongo import ASCENDING, IndexModel

from services.contracts.events import SessionRevoked
from services.notification.repository import Store, bounded

# MongoDB deletes a document within about a minute of the instant that it names.
INDEXES = [IndexModel([("expiresAt", ASCENDING)], name="revoked_session_expiry", expireAfterSeconds=0)]


class EndedSessionRepository:
    def __init__(self, store: Store) -> None:
        self._collection = store["revoked_sessions"]

    async def add(self, event: SessionRevoked) -> None:
        async with bounded():
            await self._collection.replace_one(
                {"_id": event.session_id}, {"userId": event.user_id, "expiresAt": event.expires_at}, upsert=True
            )

    async def has(self, session_id: UUID) -> bool:
        async with bounded():
            return await self._collection.find_one({"_id": session_id}, {"_id": 1}) is not None
