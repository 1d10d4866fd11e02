"""MongoDB for the whole service: durable writes, bounded waits, and one translation of failures."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any

import structlog
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import IndexModel
from pymongo.errors import ConfigurationError, DuplicateKeyError, InvalidOperation, OperationFailure, PyMongoError

from services.kit.errors import NotReady, Unavailable

Document = dict[str, Any]
Collection = AsyncIOMotorCollection[Document]

log = structlog.get_logger("mongodb")

DUPLICATE_KEY = 11000
# The statement or the document is wrong, and will be next time: a bug of ours, not an outage. BadValue (2) is not among
# them, because a hint at an index that is still being built answers with it.
_BUGS = (ConfigurationError, DuplicateKeyError, InvalidOperation)
_BUG_CODES = {9, 14, 59, 66, 85, 86, 121, 10334, DUPLICATE_KEY, 17280}
_SELECTION_MS = 700
_OPERATION_MS = 1400
# Motor hands each operation to a thread. When MongoDB hangs, soon all threads do, so the wait for one is bounded too.
_WAIT_SECONDS = 2.0
_LOOK_SECONDS = 30.0


@asynccontextmanager
async def bounded() -> AsyncIterator[None]:
    """Give the operations inside 2 s; raise `Unavailable` when they take longer or MongoDB cannot be reached."""
    with _translated():
        async with asyncio.timeout(_WAIT_SECONDS):
            yield


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (PyMongoError, TimeoutError) as error:
        if isinstance(error, _BUGS) or _codes(error) & _BUG_CODES:
            raise
        log.warning("mongodb unavailable", error=type(error).__name__, code=getattr(error, "code", None))
        raise Unavailable from error


def _codes(error: Exception) -> set[int | None]:
    if not isinstance(error, OperationFailure):
        return set()
    details = error.details or {}
    return {error.code, *(item.get("code") for item in details.get("writeErrors", ()))}


class Store:
    """The client. It connects on first use, so that the service can start while MongoDB is away.

    `indexes` are those that the service needs. The command `migrate` makes them.
    """

    def __init__(self, url: str, indexes: Mapping[str, Sequence[IndexModel]]) -> None:
        self._client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
            url,
            appname="notification",
            tz_aware=True,
            uuidRepresentation="standard",
            w="majority",
            journal=True,
            serverSelectionTimeoutMS=_SELECTION_MS,
            connectTimeoutMS=_SELECTION_MS,
            timeoutMS=_OPERATION_MS,
        )
        self._database = self._client.get_default_database("notification")
        self._needed = {name: [str(one.document["name"]) for one in models] for name, models in indexes.items()}
        self._found_at = float("-inf")
        self._missing: list[str] = []

    def __getitem__(self, name: str) -> Collection:
        return self._database[name]

    async def check(self) -> None:
        """Raise `NotReady` while an index is missing, and `Unavailable` while MongoDB does not answer.

        The indexes are looked up until all exist, and then every half minute: an empty database may replace this one.
        """
        if monotonic() - self._found_at < _LOOK_SECONDS:
            async with bounded():
                await self._database.command("ping")
            return
        async with bounded():
            found = await asyncio.gather(*(self._database[name].index_information() for name in self._needed))
        existing = dict(zip(self._needed, found, strict=True))
        missing = [index for name, needed in self._needed.items() for index in needed if index not in existing[name]]
        if missing != self._missing:
            log.warning("indexes are missing: the command migrate makes them", indexes=missing)
            self._missing = missing
        if missing:
            raise NotReady(f"indexes are missing: {', '.join(missing)}")
        self._found_at = monotonic()

    def close(self) -> None:
        self._client.close()
