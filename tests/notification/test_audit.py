"""Who read whose notifications, who was refused, and who replayed what."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import Role
from services.contracts.events import UserState
from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of


@pytest.fixture(scope="module")
async def client(auth: AuthStub, mongodb_url: str, redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service_of(auth, mongodb_url, redis_url)) as client:
        yield client


@pytest.fixture
def reader(auth: AuthStub) -> UserState:
    return auth.register(Role.ADMIN)


async def entries(client: httpx.AsyncClient, auth: AuthStub, **query: Any) -> list[dict[str, Any]]:
    """The oldest first."""
    headers = auth.bearer(auth.register(Role.ADMIN))
    answer = await client.get("/api/notifications/audit", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return list(reversed(answer.json()["items"]))


async def test_an_admins_reading_and_a_strangers_try_are_entries(
    client: httpx.AsyncClient, auth: AuthStub, reader: UserState
) -> None:
    patient, stranger = auth.register(Role.PATIENT), auth.register(Role.PATIENT)
    path = f"/api/notifications/{patient.id}"
    before = datetime.now(UTC) - timedelta(minutes=1)
    for who, status in ((patient, 200), (stranger, 404), (reader, 200)):
        assert (await client.get(path, headers=auth.bearer(who))).status_code == status
    found = await entries(client, auth, target=str(patient.id))
    assert [(one["action"], one["actorId"], one["actorRole"], one["code"]) for one in found] == [
        ("access.refused", str(stranger.id), "PATIENT", "not_found"),
        ("record.read", str(reader.id), "ADMIN", None),
    ]
    assert datetime.fromisoformat(found[0]["at"]) > before
    assert found[0]["address"] == "127.0.0.1"


async def test_a_replay_is_an_entry(client: httpx.AsyncClient, auth: AuthStub, reader: UserState) -> None:
    letter = uuid7()
    path = f"/api/notifications/dead-letters/{letter}/replay"
    assert (await client.post(path, headers=auth.bearer(reader))).status_code == 404
    found = await entries(client, auth, actor=str(reader.id))
    assert [(one["action"], one["targetId"]) for one in found] == [
        ("dead_letter.replayed", str(letter)),
        ("access.refused", str(letter)),
    ]


async def test_the_trail_is_read_page_by_page_and_by_time(
    client: httpx.AsyncClient, auth: AuthStub, reader: UserState
) -> None:
    patients = [auth.register(Role.PATIENT) for _ in range(3)]
    for patient in patients:
        await client.get(f"/api/notifications/{patient.id}", headers=auth.bearer(reader))
    query: dict[str, Any] = {"actor": str(reader.id), "limit": 2}
    first = (await client.get("/api/notifications/audit", params=query, headers=auth.bearer(reader))).json()
    query["cursor"] = first["nextCursor"]
    second = (await client.get("/api/notifications/audit", params=query, headers=auth.bearer(reader))).json()
    seen = [one["targetId"] for one in [*first["items"], *second["items"]]]
    assert seen == [str(patient.id) for patient in reversed(patients)]
    assert second["nextCursor"] is None
    assert await entries(client, auth, actor=str(reader.id), to=first["items"][-1]["at"], action="record.read")
    assert not await entries(client, auth, actor=str(reader.id), to="2020-01-01T00:00:00Z")


async def test_a_cursor_of_something_else_is_refused(
    client: httpx.AsyncClient, auth: AuthStub, reader: UserState
) -> None:
    answer = await client.get("/api/notifications/audit?cursor=WzFd", headers=auth.bearer(reader))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("query", [{"from": "0001-01-01T00:00:00+23:59"}, {"to": "9999-12-31T23:59:59-23:59"}])
async def test_an_instant_that_mongodb_cannot_be_asked_for_is_refused(
    client: httpx.AsyncClient, auth: AuthStub, reader: UserState, query: dict[str, str]
) -> None:
    answer = await client.get("/api/notifications/audit", params=query, headers=auth.bearer(reader))
    assert (answer.status_code, [error["path"] for error in answer.json()["errors"]]) == (400, list(query))
