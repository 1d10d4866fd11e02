"""The service with a mail server, and an admin."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.contracts.enums import Role
from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer
from tests.support.running import client_of
from tests.support.streams import Streams


@pytest.fixture
async def client(
    auth: AuthStub, streams: Streams, mongodb_url: str, redis_url: str, mail_server: MailServer
) -> AsyncIterator[httpx.AsyncClient]:
    service = service_of(auth, mongodb_url, redis_url, SMTP_URL=mail_server.url, MAIL_FROM="a@example.com")
    async with client_of(service) as client:
        yield client


@pytest.fixture
def admin(auth: AuthStub) -> dict[str, str]:
    return auth.bearer(auth.register(Role.ADMIN))
