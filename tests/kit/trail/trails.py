"""An audit trail, for the tests that write, seal, tamper with and verify one."""

from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from services.kit.postgres.database import Database
from services.kit.trail.entry import entry
from services.kit.trail.seals import Sealer, StoredChain
from services.kit.trail.tables import AuditTrail, audit_tables
from services.kit.trail.verify import Verdict, verify

TABLES = audit_tables(sa.MetaData())


class Trail:
    """An audit trail with its sealer, and the owner's connection, which can tamper with it."""

    def __init__(self, database: Database, owner: Any) -> None:
        self.database, self.owner = database, owner
        self.trail = AuditTrail(database)
        self.sealer = Sealer(database, CollectorRegistry())

    async def write(self, count: int, target: UUID | None = None) -> None:
        for _ in range(count):
            await self.trail.add(entry("thing.changed", target_type="thing", target_id=target or uuid4()))

    async def defect(self, head: str | None = None) -> str | None:
        return (await self.verify(head)).broken

    async def head(self) -> str:
        return str((await self.verify()).head)

    async def verify(self, head: str | None = None) -> Verdict:
        return await verify(StoredChain(self.database), head)
