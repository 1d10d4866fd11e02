"""The service on this worker's database, with a stand-in for auth behind real HTTP."""

from collections.abc import AsyncIterator, Callable

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from services.booking.app import create
from services.kit.http.service import Service
from services.standalone.databases import DatabaseUrls
from tests.booking.bus import Bus
from tests.booking.clinic import Clinic, settings_of
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of, in_its_own_task, internal_client_of


@pytest.fixture(scope="session")
def redis_url(redis_of: Callable[[str], str]) -> str:
    return redis_of("booking")


@pytest.fixture(scope="session")
async def auth() -> AsyncIterator[AuthStub]:
    stub = AuthStub()
    async with in_its_own_task(stub.serving()):
        yield stub


@pytest.fixture(scope="session")
def clinic(auth: AuthStub) -> Clinic:
    return Clinic(auth)


@pytest.fixture(scope="session")
def service(booking_database: DatabaseUrls, redis_url: str, auth: AuthStub) -> Service:
    return create(settings_of(booking_database.application, redis_url, auth))


@pytest.fixture(scope="session")
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service) as client:
        yield client


@pytest.fixture
async def internal(service: Service, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    async with internal_client_of(service) as internal:
        yield internal


@pytest.fixture
async def database(booking_database: DatabaseUrls) -> AsyncIterator[asyncpg.Connection]:
    """Connect as the owner's role, which may do what the service may not."""
    connection = await asyncpg.connect(booking_database.migration)
    yield connection
    await connection.close()


@pytest.fixture
async def bus(client: httpx.AsyncClient, redis_url: str, auth: AuthStub) -> AsyncIterator[Bus]:
    """`client` is requested for its service, which reads the stream."""
    async with Redis.from_url(redis_url) as redis:
        bus = Bus(redis, auth.issuer)
        await bus.open()
        yield bus


@pytest.fixture
async def application(booking_database: DatabaseUrls) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(booking_database.application)
    yield connection
    await connection.close()
