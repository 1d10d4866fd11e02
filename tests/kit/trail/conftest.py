"""An audit trail in PostgreSQL, empty at the start of each test."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from services.kit.postgres.database import Database
from services.kit.trail.entry import entry
from services.kit.trail.seals import Sealer, StoredChain
from services.kit.trail.tables import AuditTrail, audit_tables
from services.kit.trail.verify import Verdict, verify
from tests.support.store import create_database

TABLES = audit_tables(sa.MetaData())


class Trail:
    """A trail of its own for each test, and the owner's connection to tamper with it."""

    def __init__(self, database: Database, owner: Any) -> None:
        self.database, self.owner = database, owner
        self.trail = AuditTrail(database)
        self.sealer = Sealer(database, CollectorRegistry())

    async def write(self, count: int, target: UUID | None = None) -> None:
        for _ in range(count):
            await self.trail.add(entry("thing.changed", target_type="thing", target_id=target or uuid4()))

    async def broken(self, head: str | None = None) -> str | None:
        return (await self.verify(head)).broken

    async def head(self) -> str:
        return str((await self.verify()).head)

    async def verify(self, head: str | None = None) -> Verdict:
        return await verify(StoredChain(self.database), head)


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
