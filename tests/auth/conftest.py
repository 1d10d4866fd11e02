"""The service on this worker's database, with a stand-in for booking."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import httpx
import pytest

from services.auth.app import create
from services.auth.sessions.keys import rotate
from services.auth.settings import Settings
from services.kit.http.service import Service
from services.standalone.databases import DatabaseUrls
from tests.auth.booking_stub import BookingStub
from tests.auth.internal_tokens import AUTH_TO_BOOKING, BOOKING_TO_AUTH, NOTIFICATION_TO_AUTH
from tests.auth.mailbox import Mailbox
from tests.auth.people import People
from tests.support.running import client_of, internal_client_of


@pytest.fixture(scope="session")
def redis_url(redis_of: Callable[[str], str]) -> str:
    return redis_of("auth")


@pytest.fixture(scope="session")
async def booking() -> AsyncIterator[BookingStub]:
    async with BookingStub.serving() as booking:
        yield booking


@pytest.fixture(scope="session")
def settings(
    auth_database: DatabaseUrls, redis_url: str, booking: BookingStub, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    keys = tmp_path_factory.mktemp("keys") / "signing.json"
    rotate(keys)
    return Settings(
        redis_url=redis_url,
        auth_to_booking_token=AUTH_TO_BOOKING,
        booking_to_auth_token=BOOKING_TO_AUTH,
        notification_to_auth_token=NOTIFICATION_TO_AUTH,
        auth_database_url=auth_database.application,
        auth_signing_keys_file=str(keys),
        address_limits=False,
        auth_secret_key="secret-key-of-the-tests-0123456789",
        booking_internal_url=booking.url,
    )


@pytest.fixture(scope="session")
def service(settings: Settings) -> Service:
    return create(settings)


@pytest.fixture(scope="session")
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service) as client:
        yield client


@pytest.fixture(scope="session")
async def internal(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with internal_client_of(service) as client:
        yield client


@pytest.fixture(scope="session")
def people(client: httpx.AsyncClient, settings: Settings) -> People:
    return People(client, settings.auth_database_url)


@pytest.fixture(scope="session")
def owner_url(auth_database: DatabaseUrls) -> str:
    return auth_database.migration


@pytest.fixture
async def owner(owner_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the role that owns the tables."""
    connection = await asyncpg.connect(owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def mailbox(owner: asyncpg.Connection, internal: httpx.AsyncClient) -> Mailbox:
    return Mailbox(owner, internal)


@pytest.fixture
def keys_path(tmp_path: Path) -> Path:
    return tmp_path / "signing.json"
