"""Sessions that their owners list and end, and the access tokens that are still valid then."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import msgspec

from services.auth.models import EXPIRING
from services.contracts.events import SessionRevoked, decode_user_event
from services.kit.metrics import create_registry
from services.kit.postgres.clean_up import CleanUp
from services.kit.postgres.database import Database
from services.standalone.databases import DatabaseUrls
from tests.auth.people import People, Person
from tests.auth.requests import (
    refresh,
)
from tests.support.canary import PASSWORD


async def sessions_of(client: httpx.AsyncClient, person: Person, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/api/auth/sessions", params=query, headers=person.headers)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def revocations_of(owner: asyncpg.Connection, person: Person) -> list[SessionRevoked]:
    rows = await owner.fetch(
        "SELECT payload::text FROM outbox WHERE type = 'SessionRevoked' AND payload->>'userId' = $1 ORDER BY seq",
        person.id,
    )
    return [event for row in rows if isinstance(event := decode_user_event(row["payload"]), SessionRevoked)]


async def write(client: httpx.AsyncClient, person: Person) -> httpx.Response:
    return await client.patch(f"/api/patients/{person.id}", json={"phone": None}, headers=person.headers)


def assert_ended(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (401, "session_revoked"), answer.text
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_signing_out_ends_the_session_at_once(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    for _ in range(2):  # a client repeats the request if the answer was lost
        assert (await client.post("/api/auth/logout", headers=patient.headers)).status_code == 204
    assert (await refresh(client, patient.refresh_token)).json()["code"] == "invalid_refresh_token"
    assert_ended(await write(client, patient))
    assert (await client.get("/api/auth", headers=patient.headers)).status_code == 200
    (event,) = await revocations_of(owner, patient)
    assert str(event.session_id) == patient.session_id
    assert 900 + 30 < (event.expires_at - datetime.now(UTC)).total_seconds() <= 1200


async def test_signing_out_leaves_the_other_sessions_alone(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    other = await people.signed_in("patients", patient.email)
    await client.post("/api/auth/logout", headers=patient.headers)
    assert (await write(client, other)).status_code == 200
    assert (await refresh(client, other.refresh_token)).status_code == 200


async def test_the_caller_lists_their_sessions(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    first = await people.patient()
    body = {"email": first.email, "password": PASSWORD}
    answer = await client.post("/api/auth/login", json=body, headers={"User-Agent": "A browser/1.0" + "x" * 300})
    second = Person(answer.json()["user"], answer.json()["accessToken"], answer.json()["refreshToken"])
    await owner.execute("UPDATE sessions SET last_used_at = now() - interval '1 day' WHERE user_id = $1", first.id)
    assert (await refresh(client, first.refresh_token)).status_code == 200
    newest, oldest = await sessions_of(client, second)
    assert (newest["id"], newest["current"]) == (second.session_id, True)
    assert newest["userAgent"].startswith("A browser/1.0")
    assert len(newest["userAgent"]) == 200
    assert (oldest["id"], oldest["current"]) == (first.session_id, False)
    assert oldest.keys() == {"id", "createdAt", "lastUsedAt", "expiresAt", "userAgent", "current"}
    assert oldest["lastUsedAt"] > newest["lastUsedAt"]
    assert first.refresh_token not in msgspec.json.encode([newest, oldest]).decode()


async def test_ended_and_expired_sessions_are_not_listed(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    ended = await people.patient()
    expired = await people.signed_in("patients", ended.email)
    live = await people.signed_in("patients", ended.email)
    await client.post("/api/auth/logout", headers=ended.headers)
    await owner.execute("UPDATE sessions SET expires_at = now() WHERE id = $1", expired.session_id)
    assert [one["id"] for one in await sessions_of(client, live)] == [live.session_id]


async def test_a_long_list_of_sessions_comes_in_pages(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    others = [await people.signed_in("patients", patient.email) for _ in range(2)]
    found: list[str] = []
    query: dict[str, Any] = {"limit": 1}
    for _ in range(3):
        page = (await client.get("/api/auth/sessions", params=query, headers=patient.headers)).json()
        found += [one["id"] for one in page["items"]]
        query["cursor"] = page["nextCursor"]
    assert found == [person.session_id for person in (*reversed(others), patient)]
    assert query["cursor"] is None


async def test_a_session_is_ended_from_another_session(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    lost = await people.patient()
    here = await people.signed_in("patients", lost.email)
    path = f"/api/auth/sessions/{lost.session_id}"
    assert (await client.delete(path, headers=here.headers)).status_code == 204
    assert (await client.delete(path, headers=here.headers)).status_code == 404
    assert_ended(await write(client, lost))
    assert_ended(await client.delete(f"/api/auth/sessions/{here.session_id}", headers=lost.headers))
    assert (await write(client, here)).status_code == 200
    assert [str(event.session_id) for event in await revocations_of(owner, lost)] == [lost.session_id]


async def test_only_the_owner_ends_a_session(client: httpx.AsyncClient, people: People) -> None:
    patient, admin = await people.patient(), await people.admin()
    for other in (await people.patient(), admin):
        answer = await client.delete(f"/api/auth/sessions/{patient.session_id}", headers=other.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await write(client, patient)).status_code == 200


async def test_a_reused_refresh_token_ends_its_session_in_every_service(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    successor = (await refresh(client, patient.refresh_token)).json()["refreshToken"]
    await refresh(client, successor)
    assert (await refresh(client, patient.refresh_token)).status_code == 401
    assert_ended(await write(client, patient))
    assert [str(event.session_id) for event in await revocations_of(owner, patient)] == [patient.session_id]


async def test_a_deleted_session_cannot_write(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    await owner.execute("DELETE FROM sessions WHERE user_id = $1", patient.id)
    assert_ended(await write(client, patient))


async def test_an_expired_session_is_deleted_with_its_tokens(
    people: People, owner: asyncpg.Connection, auth_database: DatabaseUrls
) -> None:
    patient, other = await people.patient(), await people.patient()
    await owner.execute(
        "UPDATE sessions SET expires_at = now() - interval '1 s' WHERE user_id = $1::text::uuid", patient.id
    )
    database = Database(auth_database.application, registry=create_registry())
    await database.open()
    await CleanUp(database, create_registry(), *EXPIRING).work(asyncio.Event())
    await database.close()
    left = {str(row["user_id"]) for row in await owner.fetch("SELECT user_id FROM sessions")}
    assert (patient.id in left, other.id in left) == (False, True)
