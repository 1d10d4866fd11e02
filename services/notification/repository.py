"""MongoDB for the whole service: durable writes, bounded waits, and one translation of failures."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pymongo
import structlog
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import IndexModel
from pymongo.errors import ConfigurationError, DuplicateKeyError, InvalidOperation, OperationFailure, PyMongoError

from services.kit.errors import NotReady, Unavailable
from services.kit.tasks import Run, pause

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
_INDEX_SECONDS = 60.0
_RETRY_SECONDS = 0.5
_RENEW_SECONDS = 60.0


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
    """The client and the indexes. It connects on first use, so that the service can start while MongoDB is away."""

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
        self._indexes = indexes
        self._prepared = asyncio.Event()

    def __getitem__(self, name: str) -> Collection:
        return self._database[name]

    async def create_indexes(self, within_seconds: float = _INDEX_SECONDS) -> None:
        """Create the indexes that are missing, which on a large collection takes longer than milliseconds."""
        await self._ping()  # otherwise the driver would look for an absent MongoDB for all of the longer time below
        with _translated(), pymongo.timeout(within_seconds):
            for name, indexes in self._indexes.items():
                await self._database[name].create_indexes(indexes)
        self._prepared.set()

    async def keep_indexes(self, stop: asyncio.Event) -> None:
        """Create the indexes as soon as MongoDB answers, and again in case an empty database has replaced it."""
        while not stop.is_set():
            try:
                await self.create_indexes()
            except Unavailable:
                await pause(stop, _RETRY_SECONDS)
            else:
                await pause(stop, _RENEW_SECONDS)

    def once_prepared(self, run: Run) -> Run:
        """Delay `run` until the indexes exist: duplicates written earlier would prevent the unique one."""

        async def wait_and_run(stop: asyncio.Event) -> None:
            while not self._prepared.is_set() and not stop.is_set():
                await pause(stop, 0.05)
            await run(stop)

        return wait_and_run

    async def check(self) -> None:
        if not self._prepared.is_set():
            raise NotReady("the indexes do not exist yet")
        await self._ping()

    async def _ping(self) -> None:
        async with bounded():
            await self._database.command("ping")

    def close(self) -> None:
        self._client.close()
