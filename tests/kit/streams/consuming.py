"""A service that consumes a stream, and what its tests send and wait for."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from uuid_utils.compat import uuid7

from services.kit.streams.consumer import Consumer
from services.kit.streams.events import DeadLetter, Envelope, EventMetrics
from tests.support.store import STREAM, Store, ThingChanged
from tests.support.waiting import eventually

GROUP = "first"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Received = Envelope[ThingChanged]


class StoreAway(Exception):
    """The error of a handler whose database is down."""


class ConsumingService:
    """Keeps the events that it handled and its dead letters in memory."""

    def __init__(self) -> None:
        self.handled: list[Received] = []
        self.letters: list[DeadLetter] = []
        self.registry = CollectorRegistry()
        self.metrics = EventMetrics(self.registry)

    async def handle(self, envelope: Received) -> None:
        self.handled.append(envelope)

    async def dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def versions(self) -> list[int]:
        return sorted(envelope.version for envelope in self.handled)

    def consumer(self, store: Store, **changes: Any) -> Consumer[ThingChanged]:
        settings: dict[str, Any] = {
            "redis_url": store.redis_url,
            "stream": STREAM,
            "group": GROUP,
            "decode": decode,
            "handle": self.handle,
            "dead_letter": self.dead_letter,
            "is_outage": lambda error: isinstance(error, StoreAway),
            "metrics": self.metrics,
        }
        return Consumer(**settings | changes)


def decode(payload: str) -> ThingChanged:
    return msgspec.json.decode(payload, type=ThingChanged)


def entry(version: int, /, **changes: Any) -> dict[str, Any]:
    """Return the fields of a valid entry, with some of them changed."""
    fields = {
        "id": str(uuid7()),
        "type": "ThingChanged",
        "aggregateid": "some thing",
        "version": version,
        "payload": msgspec.json.encode(ThingChanged("some thing", version)),
        "created_at": "2026-12-01T09:30:00Z",
    }
    return fields | changes


async def send(store: Store, *versions: int) -> None:
    """Append an entry for each version, under the version as its id."""
    for version in versions:
        await store.redis.xadd(STREAM, entry(version), id=f"{version}-0")


async def pending(store: Store) -> int:
    found: int = (await store.redis.xpending(STREAM, GROUP))["pending"]
    return found


async def is_pending(store: Store) -> bool:
    return await pending(store) == 1


def nothing_is_pending(store: Store) -> Awaitable[None]:
    async def holds() -> bool:
        return await pending(store) == 0

    return eventually(holds)


def forever() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()
