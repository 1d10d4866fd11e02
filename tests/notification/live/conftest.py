"""A service whose live streams are read over a socket."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.contracts.enums import Role
from services.contracts.events import UserState
from services.kit.http.service import Service
from tests.notification.live.listening import subscribed, url_of
from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.streams import Streams


@pytest.fixture
async def service(auth: AuthStub, streams: Streams, mongodb_url: str, redis_url: str) -> Service:
    return service_of(auth, mongodb_url, redis_url)


@pytest.fixture
async def url(service: Service) -> AsyncIterator[str]:
    async with url_of(service) as url:
        await subscribed(service)
        yield url


@pytest.fixture
def patient(auth: AuthStub) -> UserState:
    return auth.register(Role.PATIENT, "Bo Patient")


@pytest.fixture
def doctor(auth: AuthStub) -> UserState:
    return auth.register(Role.DOCTOR, "Ada Doctor")


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client
