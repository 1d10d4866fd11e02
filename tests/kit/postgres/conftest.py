"""Databases for the tests of the kit's PostgreSQL package."""

from collections.abc import AsyncIterator
from urllib.parse import urlencode
from uuid import uuid4

import asyncpg
import pytest

from services.kit.postgres.database import Database
from tests.kit.postgres.databases import CreateDatabase, opened
from tests.kit.postgres.seats import CONSTRAINTS, DEFINITION
from tests.support.databases import ServerUrls
from tests.support.patience import be_patient


@pytest.fixture(scope="session")
def create_database(servers: ServerUrls, worker_id: str) -> CreateDatabase:
    """Create a database with the tables of a script: `await create_database(name, script)` returns its URL."""

    async def create(name: str, script: str) -> str:
        name = f"kit_{name}_{worker_id}"
        connection = await asyncpg.connect(servers.postgres)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        url = servers.postgres.rpartition("/")[0] + f"/{name}"
        connection = await asyncpg.connect(url)
        await connection.execute(script)
        await connection.close()
        return url

    return create


@pytest.fixture(scope="session")
async def seats_url(create_database: CreateDatabase) -> str:
    return await create_database("seats", DEFINITION)


@pytest.fixture
async def database(seats_url: str) -> AsyncIterator[Database]:
    async with opened(seats_url, connections=4, constraints=CONSTRAINTS) as database:
        yield database


@pytest.fixture
async def number(database: Database) -> int:
    return int(uuid4().int % 2_000_000_000) + 1


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


@pytest.fixture
async def limited(seats_url: str) -> str:
    """The URL for connections whose statements the server ends after 400 ms, as it limits the services' roles."""
    return f"{seats_url}?{urlencode({'options': '-c statement_timeout=400ms'})}"
