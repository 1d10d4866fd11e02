"""An event is written in the transaction of its change, or not at all."""

from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.pool import NullPool
from uuid_utils.compat import uuid7

from services.kit.log import request_id, traceparent
from services.kit.metrics import create_registry
from services.kit.postgres.database import Database
from services.kit.postgres.engine import async_engine
from services.kit.postgres.outbox import event_values, insert_event
from tests.support.store import APPEND, TABLES, Store, ThingChanged

THING = UUID("019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STORED = "SELECT aggregatetype, aggregateid, type, version, payload->>'thing', traceparent, request_id FROM outbox"


@pytest.mark.parametrize("path", ["asyncpg", "pool", "session"])
async def test_an_event_is_stored_alike_on_every_path(store: Store, path: str) -> None:
    tokens = traceparent.set(TRACE), request_id.set("the-request")
    values = event_values(
        ThingChanged(str(THING), 3), event_id=uuid7(), aggregatetype="thing", aggregateid=THING, version=3
    )
    traceparent.reset(tokens[0])
    request_id.reset(tokens[1])
    if path == "asyncpg":
        await APPEND.execute(store.connection, **values)
    elif path == "pool":
        # The pool's jsonb codec must not encode the text a second time.
        database = Database(store.database_url, registry=create_registry())
        await database.open()
        await database.transact(lambda connection: APPEND.execute(connection, **values))
        await database.close()
    else:
        engine = async_engine(store.database_url, poolclass=NullPool)
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(insert_event(TABLES.outbox), values)
        await engine.dispose()
    row = await store.connection.fetchrow(STORED)
    assert tuple(row) == ("thing", str(THING), "ThingChanged", 3, str(THING), TRACE, "the-request")


async def test_a_change_that_is_rolled_back_leaves_no_event(store: Store) -> None:
    transaction = store.connection.transaction()
    await transaction.start()
    await store.write()
    await transaction.rollback()
    assert await store.unpublished() == 0
