"""What the middleware writes down, and what becomes of an answer when it cannot."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from litestar import get, post
from litestar.params import FromPath
from prometheus_client import CollectorRegistry

from services.contracts.enums import Role
from services.kit.auth import TokenVerifier
from services.kit.errors import NotFound, Unavailable
from services.kit.health import Health
from services.kit.http.access_audit import AccessAudit, record
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, requires
from services.kit.http.service import Service
from services.kit.settings import ServiceSettings
from tests.kit.http.test_app import bearer, fine, issuer, jwks, no_resources
from tests.support.issuer import AUDIENCE, ISSUER
from tests.support.running import client_of


class Store:
    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.up = True

    async def add(self, entry: dict[str, Any]) -> None:
        if not self.up:
            raise Unavailable
        self.entries.append(entry)


@get("/api/files/{owner_id:uuid}", before_request=requires(), opt=record("file"))
async def read(owner_id: FromPath[UUID], request: AuthenticatedRequest) -> dict[str, str]:
    if request.user.role == Role.DOCTOR:
        raise NotFound
    return {"secret": "content"}


@post("/api/files", before_request=requires(Role.ADMIN))
async def write() -> None: ...


@get("/api/news", security=PUBLIC)
async def news() -> dict[str, str]:
    return {}


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def client(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    registry = CollectorRegistry()
    service = Service(
        "files",
        title="Files",
        version="1",
        description="Files for tests.",
        settings=ServiceSettings(redis_url="redis://127.0.0.1", trusted_proxy_hops=1),
        registry=registry,
        verifier=TokenVerifier(issuer=ISSUER, audience=AUDIENCE, fetch=jwks),
        health=Health("files", "1", registry, essential={"store": fine}),
        route_handlers=[read, write, news],
        audit=AccessAudit(store.add, reader=Role.ADMIN),
        lifespan=no_resources,
    )
    async with client_of(service) as client:
        yield client


async def get_file(client: httpx.AsyncClient, role: Role, owner: UUID, caller: UUID | None = None) -> httpx.Response:
    headers = bearer(issuer.token(caller or uuid4(), role)) | {"X-Forwarded-For": "198.51.100.9, 203.0.113.4"}
    return await client.get(f"/api/files/{owner}", headers=headers)


async def test_a_reader_is_written_down_and_others_are_not(client: httpx.AsyncClient, store: Store) -> None:
    owner, reader = uuid4(), uuid4()
    assert (await get_file(client, Role.PATIENT, owner)).status_code == 200
    assert (await get_file(client, Role.ADMIN, owner, owner)).status_code == 200
    assert (await client.get("/api/news", headers=bearer(issuer.token(reader, Role.ADMIN)))).status_code == 200
    assert store.entries == []
    assert (await get_file(client, Role.ADMIN, owner, reader)).status_code == 200
    (entry,) = store.entries
    expected = {
        "action": "record.read",
        "actor_id": reader,
        "target_type": "file",
        "target_id": owner,
        "address": "203.0.113.4",
    }
    assert expected.items() <= entry.items()


async def test_a_read_that_cannot_be_written_down_is_not_answered(client: httpx.AsyncClient, store: Store) -> None:
    store.up = False
    answer = await get_file(client, Role.ADMIN, uuid4())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"]
    assert "content" not in answer.text
    assert (await get_file(client, Role.PATIENT, uuid4())).status_code == 200


async def test_a_refusal_stays_one_though_it_cannot_be_written_down(client: httpx.AsyncClient, store: Store) -> None:
    store.up = False
    assert (await get_file(client, Role.DOCTOR, uuid4())).status_code == 404
    answer = await client.post("/api/files", headers=bearer(issuer.token(uuid4(), Role.PATIENT)))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_refusals_are_written_down_with_what_was_asked_for(client: httpx.AsyncClient, store: Store) -> None:
    owner, caller = uuid4(), uuid4()
    await get_file(client, Role.DOCTOR, owner, caller)
    await client.post("/api/files", headers=bearer(issuer.token(caller, Role.PATIENT)))
    await client.get("/api/nowhere", headers=bearer(issuer.token(caller, Role.PATIENT)))
    await client.get(f"/api/files/{owner}")
    assert [(one["code"], one["target_id"], one["actor_id"]) for one in store.entries] == [
        ("not_found", owner, caller),
        ("forbidden", None, caller),
    ]
