"""What this service remembers of users and appointments: each at the highest version that it has heard of."""

from collections.abc import Collection as Ids
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from services.contracts.events import AppointmentChange, SessionRevoked, UserState
from services.notification.repository import Collection, Document, Store, answering

# MongoDB deletes a document within a minute or so of the instant that it names.
REVOKED_SESSION_INDEXES = [IndexModel([("expiresAt", ASCENDING)], name="revoked_session_expiry", expireAfterSeconds=0)]


class UserRepository:
    def __init__(self, store: Store) -> None:
        self._collection = store["users"]

    async def put(self, user: UserState) -> None:
        await _put_newer(self._collection, _document(user, "id"))

    async def find(self, ids: Ids[UUID]) -> dict[UUID, UserState]:
        async with answering():
            documents = await self._collection.find({"_id": {"$in": list(ids)}}).to_list(len(ids))
        return {
            document["_id"]: msgspec.convert({**document, "id": document["_id"]}, UserState) for document in documents
        }


class RevokedSessionRepository:
    """Logins that ended before their time, until the last of their access tokens has expired."""

    def __init__(self, store: Store) -> None:
        self._collection = store["revoked_sessions"]

    async def put(self, event: SessionRevoked) -> None:
        async with answering():
            await self._collection.replace_one(
                {"_id": event.session_id}, {"userId": event.user_id, "expiresAt": event.expires_at}, upsert=True
            )

    async def has(self, session_id: UUID) -> bool:
        async with answering():
            return await self._collection.find_one({"_id": session_id}, {"_id": 1}) is not None


class AppointmentRepository:
    def __init__(self, store: Store) -> None:
        self._collection = store["appointments"]

    async def put(self, event: AppointmentChange) -> None:
        document: Document = {
            "_id": event.appointment_id,
            "version": event.version,
            "status": event.status.value,
            "startsAt": event.starts_at,
            "doctorId": event.doctor_id,
            "patientId": event.patient_id,
        }
        await _put_newer(self._collection, document)


def _document(struct: msgspec.Struct, key: str) -> Document:
    fields: dict[str, Any] = msgspec.to_builtins(struct, builtin_types=(UUID, datetime))
    return {"_id": fields.pop(key), **fields}


async def _put_newer(collection: Collection, document: Document) -> None:
    older = {"_id": document["_id"], "version": {"$lt": document["version"]}}
    async with answering():
        try:
            await collection.replace_one(older, document, upsert=True)
        except DuplicateKeyError:
            # It is there and not older; or a racing writer has just made it, perhaps at an older version than this.
            await collection.replace_one(older, document)
