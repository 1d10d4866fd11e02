"""The service with real servers, and a stand-in for auth behind real HTTP."""

from collections.abc import AsyncIterator, Callable

import pytest

from services.kit.http.service import Service
from services.kit.settings import load
from services.notification.app import INDEXES, create
from services.notification.repository import Store
from services.notification.settings import Settings
from tests.support.auth_stub import INTERNAL_TOKEN, AuthStub
from tests.support.mail_server import MailServer
from tests.support.running import in_its_own_task, metrics_of
from tests.support.streams import Streams
from tests.support.waiting import eventually


@pytest.fixture(scope="session")
def redis_url(redis_of: Callable[[str], str]) -> str:
    return redis_of("notification")


@pytest.fixture(scope="session")
async def auth() -> AsyncIterator[AuthStub]:
    stub = AuthStub()
    async with in_its_own_task(stub.serving()):
        yield stub


def service_of(auth: AuthStub, mongodb_url: str, redis_url: str, **more: str) -> Service:
    return create(load(Settings, environment_of(auth, mongodb_url, redis_url) | more))


def environment_of(auth: AuthStub, mongodb_url: str, redis_url: str) -> dict[str, str]:
    return {
        "MONGODB_URL": mongodb_url,
        "REDIS_URL": redis_url,
        "NOTIFICATION_SECRET_KEY": "notification-secret-key-of-the-tests",
        "NOTIFICATION_TO_AUTH_TOKEN": INTERNAL_TOKEN,
        "AUTH_INTERNAL_URL": auth.url,
        "MAILS_PER_PAIR_AND_HOUR": "0",
        "MAILS_PER_RECIPIENT_AND_HOUR": "0",
        "JWKS_URL": f"{auth.url}/api/auth/.well-known/jwks.json",
    }


def store_of(mongodb_url: str) -> Store:
    return Store(mongodb_url, INDEXES)


@pytest.fixture
async def store(mongodb_url: str) -> AsyncIterator[Store]:
    store = store_of(mongodb_url)
    await store.create_indexes()
    yield store
    store.close()


@pytest.fixture
async def mail_server(store: Store) -> AsyncIterator[MailServer]:
    """With nothing that an earlier test left to be sent."""
    await store["notifications"].delete_many({"nextAttemptAt": {"$exists": True}})
    server = MailServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def streams(redis_url: str, auth: AuthStub) -> AsyncIterator[Streams]:
    async with Streams.of(redis_url, auth.issuer) as streams:
        yield streams


async def has_metric(service: Service, name: str, value: float) -> None:
    """Soon: what is done is counted after it."""

    async def holds() -> bool:
        return (await metrics_of(service)).get(name, 0) == value

    await eventually(holds)
