"""An outbox in PostgreSQL and a stream in Redis, both empty when a test starts."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from services.kit import tracing
from tests.support.collector import ENDPOINT, Collector, Exporting, collecting
from tests.support.proxy import Proxy
from tests.support.store import TABLES, Store, create_database


@pytest.fixture(scope="session")
def redis_url(redis_of: Callable[[str], str]) -> str:
    return redis_of("kit")


@pytest.fixture(scope="session")
async def outbox_url(servers: Any, worker_id: str) -> str:
    return await create_database(servers.postgres, f"outbox_{worker_id}", TABLES)


@pytest.fixture
async def store(outbox_url: str, redis_url: str) -> AsyncIterator[Store]:
    connection = await asyncpg.connect(outbox_url)
    redis: Redis = Redis.from_url(redis_url)
    await connection.execute("TRUNCATE outbox, relay_state RESTART IDENTITY")
    await redis.flushdb()
    yield Store(outbox_url, redis_url, connection, redis)
    await redis.aclose()
    await connection.close()


@pytest.fixture
async def redis_proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy.to(redis_url) as proxy:
        yield proxy


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def exporting(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exporting]:
    """Export the spans of a block to the collector, which has them all when the block has ended."""
    with collecting(collector) as url:

        def export(service: str = "notes", **variables: str) -> AbstractContextManager[None]:
            for name, value in {ENDPOINT: url, **variables}.items():
                monkeypatch.setenv(name, value)
            return tracing.exporting(service, os.environ)

        yield export
