"""How many appointment mails a person gets in an hour, counted in MongoDB over all replicas."""

from collections.abc import Sequence
from datetime import UTC, datetime
from time import time
from typing import Any
from uuid import UUID

from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from services.notification.repository import Store, bounded

INDEXES = [IndexModel([("expiresAt", ASCENDING)], name="mail_allowance_expiry", expireAfterSeconds=0)]
_WINDOW_SECONDS = 3600


class MailAllowances:
    """Allow at most `per_recipient` mails to one person in an hour of the clock, and `per_pair` about one other; 0
    means any number.
    """

    def __init__(self, store: Store, *, per_recipient: int, per_pair: int) -> None:
        self._collection = store["mail_allowances"]
        self._per_recipient, self._per_pair = per_recipient, per_pair

    async def take(self, delivery_id: UUID, recipient_id: UUID, other_id: UUID) -> bool:
        """Take an allowance before the mail leaves; a delivery that is attempted again in that hour takes no other."""
        return await self._take([recipient_id, other_id], self._per_pair, delivery_id) and await self._take(
            [recipient_id], self._per_recipient, delivery_id
        )

    async def _take(self, people: Sequence[UUID], limit: int, delivery_id: UUID) -> bool:
        if not limit:
            return True
        window = int(time() // _WINDOW_SECONDS)
        expires_at = datetime.fromtimestamp((window + 2) * _WINDOW_SECONDS, UTC)
        key: dict[str, Any] = {"people": people, "window": window}
        # Its own delivery, or a place that is still free.
        admits = {"$or": [{"deliveries": delivery_id}, {f"deliveries.{limit - 1}": {"$exists": False}}]}
        taken = {"$addToSet": {"deliveries": delivery_id}, "$setOnInsert": {"expiresAt": expires_at}}
        async with bounded():
            for attempt in range(2):
                try:
                    await self._collection.update_one({"_id": key, **admits}, taken, upsert=True)
                except DuplicateKeyError:
                    # All places are taken, or another replica has just inserted the document.
                    if attempt:
                        return False
                else:
                    return True
        return False
