"""Projections of users and appointments, each at the highest version that any event has brought."""

from collections.abc import Collection as Ids
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from pymongo.errors import DuplicateKeyError

from services.contracts.events import AppointmentChange, UserState
from services.notification.repository import Collection, Document, Store, bounded


class UserRepository:
    def __init__(self, store: Store) -> None:
        self._collection = store["users"]

    async def put(self, user: UserState) -> None:
        fields: dict[str, Any] = msgspec.to_builtins(user, builtin_types=(UUID, datetime))
        await _put_newer(self._collection, {"_id": fields.pop("id"), **fields})

    async def find(self, ids: Ids[UUID]) -> dict[UUID, UserState]:
        async with bounded():
            documents = await self._collection.find({"_id": {"$in": list(ids)}}).to_list(len(ids))
        return {
            document["_id"]: msgspec.convert({**document, "id": document["_id"]}, UserState) for document in documents
        }


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


async def _put_newer(collection: Collection, document: Document) -> None:
    older = {"_id": document["_id"], "version": {"$lt": document["version"]}}
    async with bounded():
        try:
            await collection.replace_one(older, document, upsert=True)
        except DuplicateKeyError:
            # It exists and is not older; or another writer has just created it, perhaps at an older version than this.
            await collection.replace_one(older, document)
