"""The service."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of
from tests.support.streams import Streams


@pytest.fixture
async def client(
    auth: AuthStub, streams: Streams, mongodb_url: str, redis_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service_of(auth, mongodb_url, redis_url)) as client:
        yield client
