"""Two replicas on one database."""

from collections.abc import AsyncIterator

import pytest

from services.standalone.databases import DatabaseUrls
from tests.booking.clinic import (
    environment,
)
from tests.support.auth_stub import AuthStub
from tests.support.process import Served, served


@pytest.fixture(scope="module")
async def replicas(booking_database: DatabaseUrls, redis_url: str, auth: AuthStub) -> AsyncIterator[list[Served]]:
    settings = environment(booking_database.application, redis_url, auth)
    async with served("booking", settings) as one, served("booking", settings) as other:
        yield [one, other]
        for replica in (one, other):
            # Not one overlap got as far as the constraints, and nothing deadlocked.
            assert await replica.metric("booking_unseen_conflicts_total") == 0
            assert await replica.metric("database_transaction_retries_total") == 0
