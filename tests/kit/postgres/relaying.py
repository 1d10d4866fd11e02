"""A relay between the stores of a test, and what its tests wait for."""

from collections.abc import Awaitable
from typing import Any
from uuid import UUID

from prometheus_client import CollectorRegistry

from services.kit.postgres.relay import Relay
from tests.support.store import GROUPS, STREAM, Store
from tests.support.waiting import eventually

OFTEN = 0.05  # seconds between two rounds of upkeep, for tests that wait for one


def relay_of(store: Store, **changes: Any) -> Relay:
    settings: dict[str, Any] = {
        "database_url": store.database_url,
        "redis_url": store.redis_url,
        "stream": STREAM,
        "groups": GROUPS,
        "registry": CollectorRegistry(),
    }
    return Relay(**settings | changes)


def published(store: Store) -> Awaitable[None]:
    async def holds() -> bool:
        return await store.unpublished() == 0

    return eventually(holds)


def stream_holds(store: Store, *numbers: int) -> Awaitable[None]:
    """Wait until the stream has exactly the entries with these numbers."""

    async def holds() -> bool:
        return [number for number, _ in await store.entries()] == list(numbers)

    return eventually(holds)


def acknowledged_through(store: Store, position: int) -> Awaitable[None]:
    async def holds() -> bool:
        return await store.acked_through() == position

    return eventually(holds)


def groups_exist(store: Store) -> Awaitable[None]:
    async def holds() -> bool:
        present = await store.redis.exists(STREAM) and await store.redis.xinfo_groups(STREAM)
        return {group["name"].decode() for group in present or []} == set(GROUPS)

    return eventually(holds)


async def numbers_in_postgres(store: Store) -> dict[int, UUID]:
    """Return the event ids of the outbox by their numbers in the stream."""
    rows = await store.connection.fetch("SELECT stream_seq, id FROM outbox WHERE stream_seq IS NOT NULL")
    return {row["stream_seq"]: row["id"] for row in rows}
