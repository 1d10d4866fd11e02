from services.notification.repository import Store, bounded


class TokenKeyRepository:
    """auth's last good key document, for a process that starts while auth is down."""

    def __init__(self, store: Store) -> None:
        self._collection = store["token_keys"]

    async def load(self) -> bytes | None:
        async with bounded():
            kept = await self._collection.find_one({"_id": "jwks"})
        return bytes(kept["document"]) if kept else None

    async def save(self, document: bytes) -> None:
        async with bounded():
            await self._collection.replace_one({"_id": "jwks"}, {"document": document}, upsert=True)
