"""The service with real servers, and a stand-in for auth behind real HTTP."""

from collections.abc import AsyncIterator, Callable

import pytest

from services.contracts.enums import Role
from services.contracts.events import UserState
from services.notification.repository import Store
from tests.notification.services import store_of
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer
from tests.support.running import in_its_own_task
from tests.support.streams import Streams


@pytest.fixture(scope="session")
def redis_url(redis_of: Callable[[str], str]) -> str:
    return redis_of("notification")


@pytest.fixture(scope="session")
async def auth() -> AsyncIterator[AuthStub]:
    stub = AuthStub()
    async with in_its_own_task(stub.serving()):
        yield stub


@pytest.fixture
async def store(mongodb_url: str) -> AsyncIterator[Store]:
    store = store_of(mongodb_url)
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


@pytest.fixture
def pair(auth: AuthStub) -> tuple[UserState, UserState]:
    """A patient and a doctor, whom auth has and the service has not heard of."""
    return auth.register(Role.PATIENT, "Bo Patient"), auth.register(Role.DOCTOR, "Ada Doctor")
