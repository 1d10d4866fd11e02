"""The notes service, running."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.kit.http.service import Service
from tests.kit.http.notes import HANDLERS, INTERNAL_HANDLERS
from tests.kit.http.services import service_of
from tests.support.running import client_of


@pytest.fixture(scope="module")
def service() -> Service:
    return service_of("notes", HANDLERS, internal=INTERNAL_HANDLERS, cors_origins="https://app.example.com")


@pytest.fixture(scope="module")
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service) as client:
        yield client
