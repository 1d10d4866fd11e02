"""The service, and its inbox in MongoDB."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.notification.directory.repository import UserRepository
from services.notification.inbox.repository import InboxRepository
from services.notification.repository import Store
from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of


@pytest.fixture(scope="module")
async def client(auth: AuthStub, mongodb_url: str, redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service_of(auth, mongodb_url, redis_url)) as client:
        yield client


@pytest.fixture
def inbox(store: Store) -> InboxRepository:
    return InboxRepository(store, UserRepository(store))
