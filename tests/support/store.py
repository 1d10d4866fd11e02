"""Both ends of a relay: an outbox in PostgreSQL and a stream in Redis."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement
from uuid_utils.compat import uuid7

from services.kit.postgres.database import Statement
from services.kit.postgres.outbox import event_values, insert_event, outbox_tables

STREAM = "test.things"
GROUPS = ("first", "second")
TABLES = outbox_tables(sa.MetaData())
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
APPEND = Statement(insert_event(TABLES.outbox))


class ThingChanged(msgspec.Struct, tag_field="type", tag=True):
    """The smallest event that an outbox stores."""

    thing: str
    version: int


class Store:
    """Writes rows to the outbox and reads entries from the stream."""

    def __init__(self, database_url: str, redis_url: str, connection: Any, redis: Any) -> None:
        self.database_url, self.redis_url = database_url, redis_url
        self.connection, self.redis = connection, redis

    async def write(self, count: int = 1, *, thing: UUID | None = None, first_version: int = 1) -> list[UUID]:
        """Append `count` events, each in its own transaction, and return their ids."""
        thing = thing or uuid7()
        written = []
        for version in range(first_version, first_version + count):
            event_id = uuid7()
            event = ThingChanged(str(thing), version)
            values = event_values(event, event_id=event_id, aggregatetype="thing", aggregateid=thing, version=version)
            await APPEND.execute(self.connection, **values)
            written.append(event_id)
        return written

    async def entries(self) -> list[tuple[int, dict[str, str]]]:
        """Return the number and the fields of each entry in the stream."""
        found = await self.redis.xrange(STREAM)
        return [
            (int(id_.partition(b"-")[0]), {name.decode(): value.decode() for name, value in fields.items()})
            for id_, fields in found
        ]

    async def event_ids(self) -> list[UUID]:
        return [UUID(fields["id"]) for _, fields in await self.entries()]

    async def unpublished(self) -> int:
        count: int = await self.connection.fetchval("SELECT count(*) FROM outbox WHERE stream_seq IS NULL")
        return count

    async def acked_through(self) -> int:
        reached: int | None = await self.connection.fetchval("SELECT acked_through FROM relay_state")
        return reached or 0

    async def acknowledge(self, group: str, count: int) -> None:
        """Read the next `count` entries as a member of `group`, and acknowledge them."""
        ((_, entries),) = await self.redis.xreadgroup(group, "reader", {STREAM: ">"}, count=count)
        await self.redis.xack(STREAM, group, *(id_ for id_, _ in entries))


async def create_database(server_url: str, name: str, tables: Iterable[sa.Table]) -> str:
    """Create a database with `tables` and their indexes, and return its URL."""
    connection = await asyncpg.connect(server_url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
    connection = await asyncpg.connect(url)
    for table in tables:
        definitions: list[ExecutableDDLElement] = [CreateTable(table), *map(CreateIndex, table.indexes)]
        for definition in definitions:
            await connection.execute(str(definition.compile(dialect=_DIALECT)))
    await connection.close()
    return url
