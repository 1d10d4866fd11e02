"""The service with a real SMTP server."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from services.kit.http.service import Service
from tests.notification.delivery.email.emails import FROM
from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer
from tests.support.running import client_of
from tests.support.streams import Streams


@pytest.fixture
def emailing(auth: AuthStub, mongodb_url: str, redis_url: str, mail_server: MailServer) -> Callable[..., Service]:
    def create(**more: str) -> Service:
        settings = {"SMTP_URL": mail_server.url, "MAIL_FROM": FROM} | more
        return service_of(auth, mongodb_url, redis_url, **settings)

    return create


@pytest.fixture
async def service(emailing: Callable[..., Service], streams: Streams) -> Service:
    return emailing()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service) as client:
        yield client
