"""Databases that a test creates and opens."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from services.kit.postgres.database import Database
from services.kit.postgres.failures import Constraints

CreateDatabase = Callable[[str, str], Awaitable[str]]


@asynccontextmanager
async def opened(url: str, *, connections: int, constraints: Constraints | None = None) -> AsyncIterator[Database]:
    database = Database(url, registry=CollectorRegistry(), constraints=constraints or {}, max_connections=connections)
    await database.open()
    yield database
    await database.close()
