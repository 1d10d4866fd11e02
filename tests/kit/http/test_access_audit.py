"""What the middleware records in the audit trail, and what it answers when it cannot."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from litestar import get, post
from litestar.params import FromPath

from services.contracts.enums import Role
from services.kit.auth import Principal
from services.kit.errors import NotFound, Unavailable
from services.kit.http.access_audit import AccessAudit, record
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, requires
from services.kit.trail.entry import AuditEntry, AuditFilter
from tests.kit.http.services import bearer, issuer, service_of
from tests.support.running import client_of


class Trail:
    key = int

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.up = True

    async def add(self, entry: dict[str, Any]) -> None:
        if not self.up:
            raise Unavailable
        self.entries.append(entry)

    async def list(self, wanted: AuditFilter, *, limit: int, before: int | None) -> list[AuditEntry]:
        raise NotImplementedError


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
def trail() -> Trail:
    return Trail()


@pytest.fixture
async def client(trail: Trail) -> AsyncIterator[httpx.AsyncClient]:
    service = service_of("files", [read, write, news], trail=trail, trusted_proxy_hops=1)
    async with client_of(service) as client:
        yield client


async def get_file(client: httpx.AsyncClient, role: Role, owner: UUID, caller: UUID | None = None) -> httpx.Response:
    headers = bearer(issuer.token(caller or uuid4(), role)) | {"X-Forwarded-For": "198.51.100.9, 203.0.113.4"}
    return await client.get(f"/api/files/{owner}", headers=headers)


async def test_a_read_by_a_reader_is_recorded_and_any_other_is_not(client: httpx.AsyncClient, trail: Trail) -> None:
    owner, reader = uuid4(), uuid4()
    assert (await get_file(client, Role.PATIENT, owner)).status_code == 200
    assert (await get_file(client, Role.ADMIN, owner, owner)).status_code == 200
    assert (await client.get("/api/news", headers=bearer(issuer.token(reader, Role.ADMIN)))).status_code == 200
    assert trail.entries == []
    assert (await get_file(client, Role.ADMIN, owner, reader)).status_code == 200
    (entry,) = trail.entries
    expected = {
        "action": "record.read",
        "actor_id": reader,
        "target_type": "file",
        "target_id": owner,
        "address": "203.0.113.4",
    }
    assert expected.items() <= entry.items()


async def test_a_read_that_cannot_be_recorded_is_not_answered(client: httpx.AsyncClient, trail: Trail) -> None:
    trail.up = False
    answer = await get_file(client, Role.ADMIN, uuid4())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"]
    assert "content" not in answer.text
    assert (await get_file(client, Role.PATIENT, uuid4())).status_code == 200


async def test_a_refusal_that_cannot_be_recorded_is_still_answered(client: httpx.AsyncClient, trail: Trail) -> None:
    trail.up = False
    assert (await get_file(client, Role.DOCTOR, uuid4())).status_code == 404
    answer = await client.post("/api/files", headers=bearer(issuer.token(uuid4(), Role.PATIENT)))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_refusals_are_recorded_with_their_target(client: httpx.AsyncClient, trail: Trail) -> None:
    owner, caller = uuid4(), uuid4()
    await get_file(client, Role.DOCTOR, owner, caller)
    await client.post("/api/files", headers=bearer(issuer.token(caller, Role.PATIENT)))
    await client.get("/api/nowhere", headers=bearer(issuer.token(caller, Role.PATIENT)))
    await client.get(f"/api/files/{owner}")
    assert [(one["code"], one["target_id"], one["actor_id"]) for one in trail.entries] == [
        ("not_found", owner, caller),
        ("forbidden", None, caller),
    ]


async def test_of_many_refusals_of_one_caller_few_are_recorded() -> None:
    trail, hours = Trail(), 1.0
    audit = AccessAudit(trail.add, reader=Role.ADMIN, clock=lambda: hours * 3600)
    caller, other = (Principal(id=uuid4(), role=Role.DOCTOR, session_id=uuid4(), expires_at=0) for _ in range(2))
    scope: Any = {"route_handler": write, "path_params": {}, "state": {}, "method": "POST"}
    for _ in range(10_000):
        await audit(scope, caller, 403)
    await audit(scope, other, 403)
    assert Counter(entry["actor_id"] for entry in trail.entries) == {caller.id: 102, other.id: 1}
    hours = 2.0
    await audit(scope, caller, 403)
    assert len(trail.entries) == 104
