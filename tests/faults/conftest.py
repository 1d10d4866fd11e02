"""Stores of their own for the tests of the checks."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pymongo
import pytest
from redis.asyncio import Redis
from uuid_utils.compat import uuid7

from tests.faults.scenario import Scenario
from tests.faults.servers import connected
from tests.support.databases import CloneDatabase, ServerUrls

_TABLES = "appointments, appointment_history, outbox, idempotency_keys, users, dead_letters"


@pytest.fixture(scope="module")
async def urls(clone_database: CloneDatabase, worker_id: str, servers: ServerUrls) -> dict[str, str]:
    """The databases of booking and auth, as the superuser."""
    await clone_database("booking", f"booking_faults_{worker_id}")
    await clone_database("auth", f"auth_faults_{worker_id}")
    return {name: f"{servers.postgres.rpartition('/')[0]}/{name}_faults_{worker_id}" for name in ("booking", "auth")}


@pytest.fixture
async def scenario(
    urls: dict[str, str], servers: ServerUrls, redis_of: Callable[[str], str], worker_id: str, tmp_path: Path
) -> AsyncIterator[Scenario]:
    """A scenario without a defect. What a test changes in booking's database is rolled back."""
    client = pymongo.AsyncMongoClient[dict[str, Any]](servers.mongodb, uuidRepresentation="standard")
    name = f"faults_{worker_id}"
    async with (
        connected(urls["booking"]) as booking,
        connected(urls["auth"]) as auth,
        Redis.from_url(redis_of("faults")) as redis,
        client,
    ):
        await booking.execute(f"TRUNCATE {_TABLES}")
        await client.drop_database(name)
        await redis.flushdb()
        event, appointment, patient, doctor = (uuid7() for _ in range(4))
        scenario = Scenario(
            booking, auth, client[name], redis, [], {}, appointment, event, patient, doctor, tmp_path / "ledger.jsonl"
        )
        await scenario.prepare()
        transaction = booking.transaction()
        await transaction.start()
        yield scenario
        await transaction.rollback()
