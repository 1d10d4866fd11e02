from collections.abc import Sequence
from uuid import UUID

from pymongo import ASCENDING, IndexModel, UpdateOne

from services.contracts.streams import USERS
from services.notification.delivery.schemas import Reason
from services.notification.inbox.schemas import NotificationStatus
from services.notification.notifying.wording import renamed
from services.notification.repository import Document, Store, answering

# By the appointments, which are fewer: notifications are found by theirs.
APPOINTMENT_INDEXES = [
    IndexModel([("patientId", ASCENDING), ("_id", ASCENDING)], name="appointment_patient"),
    IndexModel([("doctorId", ASCENDING), ("_id", ASCENDING)], name="appointment_doctor"),
]
_UNSENT = [NotificationStatus.PENDING.value, NotificationStatus.FAILED.value]


class ErasureRepository:
    def __init__(self, store: Store) -> None:
        self._appointments, self._notifications = store["appointments"], store["notifications"]
        self._dead_letters = store["dead_letters"]

    async def appointments_of(self, user_id: UUID, *, after: UUID | None, limit: int) -> Sequence[UUID]:
        """By id."""
        found: set[UUID] = set()
        for party in ("patientId", "doctorId"):
            query: Document = {party: user_id} | ({"_id": {"$gt": after}} if after else {})
            async with answering():
                cursor = self._appointments.find(query, {"_id": 1}).sort("_id", ASCENDING).limit(limit)
                found |= {document["_id"] for document in await cursor.to_list(limit)}
        return sorted(found)[:limit]

    async def forget(self, user_id: UUID, name: str, appointment_ids: Sequence[UUID]) -> None:
        """What the user was told is emptied, what has not left yet never does, and others' texts say `name`."""
        about = {"appointmentId": {"$in": list(appointment_ids)}}
        async with answering():
            found = await self._notifications.find(
                about, {"recipientId": 1, "message": 1}, hint="delivery_appointment"
            ).to_list(None)
            changes = [change for document in found for change in _changes(document, user_id, name)]
            if changes:
                await self._notifications.bulk_write(changes, ordered=False)

    async def forget_dead_letters(self, user_id: UUID) -> None:
        """Older news of the user, which would be of no effect, and may have a name."""
        async with answering():
            await self._dead_letters.delete_many({"stream": USERS.name, "fields.aggregateid": str(user_id)})


def _changes(document: Document, user_id: UUID, name: str) -> list[UpdateOne]:
    one = {"_id": document["_id"]}
    if document["recipientId"] != user_id:
        message = renamed(document["message"], name)
        return [UpdateOne(one, {"$set": {"message": message}})] if message != document["message"] else []
    skipped = {"status": NotificationStatus.SKIPPED.value, "reason": Reason.ERASED.value}
    return [
        UpdateOne(one, {"$set": {"message": ""}, "$unset": {"error": ""}}),
        UpdateOne(
            one | {"status": {"$in": _UNSENT}},
            {"$set": skipped, "$unset": {"nextAttemptAt": "", "failedAt": "", "event": "", "token": ""}},
        ),
    ]
