"""MongoDB's indexes. The command `migrate` makes them; the service only checks that they exist.

Give an index whose definition changes a new name where its collection may be large: the release before needs the old
one. An index that changes under its name is remade, and what asks for it by its name is refused meanwhile.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import pymongo
from pymongo import IndexModel
from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError

from services.notification.audit import repository as audit
from services.notification.dead_letters import repository as dead_letters
from services.notification.delivery import repository as delivery
from services.notification.delivery.email import repository as mail_allowances
from services.notification.directory import ended_sessions
from services.notification.inbox import repository as inbox
from services.notification.notifying import repository as notifying

INDEXES = {
    "notifications": [*notifying.INDEXES, *inbox.INDEXES, *delivery.INDEXES],
    "dead_letters": dead_letters.INDEXES,
    "revoked_sessions": ended_sessions.INDEXES,
    "audit_log": audit.INDEXES,
    "audit_seals": audit.SEAL_INDEXES,
    "mail_allowances": mail_allowances.INDEXES,
}
Document = dict[str, Any]

_SELECTION_MS = 10_000
_INDEX_NOT_FOUND = 27
_LEASE_SECONDS = 30
_POLL_SECONDS = 0.5
_FREE: Document = {"owner": None, "until": datetime.fromtimestamp(0, UTC)}


class Refused(Exception):
    """MongoDB cannot make an index. The message has its reason, such as two documents with the same key."""


def migrate(url: str, indexes: Mapping[str, Sequence[IndexModel]] = INDEXES) -> Sequence[str]:
    """Make the indexes that are missing and remake those that have changed; return the names of both.

    It may run several times at once. No build has a time limit, not even the one in `url`: MongoDB would end the build
    then, and the next run would start it from the beginning.
    """
    with pymongo.MongoClient[Document](
        url,
        appname="notification-migrate",
        uuidRepresentation="standard",
        w="majority",
        journal=True,
        serverSelectionTimeoutMS=_SELECTION_MS,
        timeoutMS=0,
        socketTimeoutMS=0,
    ) as client:
        database = client.get_default_database("notification")
        wanted = ((database[name], model) for name, models in indexes.items() for model in models)
        return [_name(model) for collection, model in wanted if _migrate(collection, model)]


def _migrate(collection: Collection[Document], index: IndexModel) -> bool:
    """Return whether the index had to be made."""
    found = _find(collection, _name(index))
    if found == _definition(index.document):
        _drop(collection, _guard(index))  # of a run that was killed
        return False
    if found is None:
        _create(collection, index)
    else:
        with _alone(collection.database["migrations"]):
            _remake(collection, index)
    _drop(collection, _guard(index))
    return True


def _remake(collection: Collection[Document], index: IndexModel) -> None:
    """Replace an index that has another definition. A second one guards the uniqueness while the name is free."""
    wanted = _definition(index.document)
    if _find(collection, _name(index)) == wanted:
        return
    if index.document.get("unique"):
        guard = _guard(index)
        if _find(collection, _name(guard)) != _definition(guard.document):
            _drop(collection, guard)
        _create(collection, guard)
    _drop(collection, index)
    _create(collection, index)


def _create(collection: Collection[Document], index: IndexModel) -> None:
    try:
        collection.create_indexes([index])
    except OperationFailure as failure:
        reason = (failure.details or {}).get("errmsg", failure.code)
        raise Refused(f"MongoDB refuses the index {_name(index)} of {collection.name}: {reason}") from failure


def _guard(index: IndexModel) -> IndexModel:
    """Return an index that refuses the same documents. Without a filter MongoDB would call it the same index."""
    document = dict(index.document)
    keys: Document = document.pop("key")
    filter = {**document.pop("partialFilterExpression", {}), "_id": {"$exists": True}}
    return IndexModel(
        list(keys.items()), **document | {"name": f"{_name(index)}_guard", "partialFilterExpression": filter}
    )


def _find(collection: Collection[Document], name: str) -> Document | None:
    return next((_definition(one) for one in collection.list_indexes() if one["name"] == name), None)


def _definition(index: Mapping[str, Any]) -> Document:
    """Return what must be equal; `v` and the name do not make another index, and the order of the keys does."""
    options = {name: value for name, value in index.items() if name not in ("v", "name", "key", "ns")}
    return {"key": list(index["key"].items()), **options}


def _drop(collection: Collection[Document], index: IndexModel) -> None:
    try:
        collection.drop_index(_name(index))
    except OperationFailure as failure:
        if failure.code != _INDEX_NOT_FOUND:
            raise


def _name(index: IndexModel) -> str:
    return str(index.document["name"])


@contextmanager
def _alone(leases: Collection[Document]) -> Iterator[None]:
    """Wait until no other run remakes an index: of two, one might drop what the other has just made.

    The lease of a killed run ends by the database's clock.
    """
    mine = {"_id": "indexes", "owner": uuid4()}
    taken = [{"$set": {"owner": mine["owner"], "until": {"$add": ["$$NOW", _LEASE_SECONDS * 1000]}}}]
    ended = Event()

    def renew() -> None:
        while not ended.wait(_LEASE_SECONDS / 6):
            with suppress(PyMongoError):  # the next time is early enough
                leases.update_one(mine, taken)

    leases.update_one({"_id": "indexes"}, {"$setOnInsert": _FREE}, upsert=True)
    while leases.update_one({"_id": "indexes", "$expr": {"$lt": ["$until", "$$NOW"]}}, taken).matched_count == 0:
        ended.wait(_POLL_SECONDS)
    renewing = Thread(target=renew)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        leases.update_one(mine, {"$set": _FREE})
