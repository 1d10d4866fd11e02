"""An audit trail in PostgreSQL, empty when a test starts."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from services.kit.postgres.database import Database
from tests.kit.trail.trails import TABLES, Trail
from tests.support.store import create_database


@pytest.fixture(scope="session")
async def audit_url(servers: Any, worker_id: str) -> str:
    return await create_database(servers.postgres, f"audit_{worker_id}", TABLES)


@pytest.fixture
async def trail(audit_url: str) -> AsyncIterator[Trail]:
    owner = await asyncpg.connect(audit_url)
    await owner.execute("TRUNCATE audit_log, audit_seals, audit_expiries RESTART IDENTITY")
    database = Database(audit_url, registry=CollectorRegistry(), max_connections=4)
    await database.open()
    yield Trail(database, owner)
    await database.close()
    await owner.close()
