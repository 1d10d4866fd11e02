"""Sessions that their owners end, and what becomes of tokens that are still valid."""

from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import msgspec

from services.contracts.events import SessionRevoked, decode_user_event
from tests.auth.people import People, Person
from tests.support.canary import PASSWORD


def session_of(person: Person) -> str:
    return str(jwt.decode(person.access_token, options={"verify_signature": False})["sid"])


async def sessions_of(client: httpx.AsyncClient, person: Person, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/api/auth/sessions", params=query, headers=person.headers)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def revocations_of(owner: Any, person: Person) -> list[SessionRevoked]:
    rows = await owner.fetch(
        "SELECT payload::text FROM outbox WHERE type = 'SessionRevoked' AND payload->>'userId' = $1 ORDER BY seq",
        person.id,
    )
    return [event for row in rows if isinstance(event := decode_user_event(row["payload"]), SessionRevoked)]


async def refresh(client: httpx.AsyncClient, person: Person) -> httpx.Response:
    return await client.post("/api/auth/refresh", json={"refreshToken": person.refresh_token})


async def write(client: httpx.AsyncClient, person: Person) -> httpx.Response:
    return await client.patch(f"/api/patients/{person.id}", json={"phone": None}, headers=person.headers)


def assert_ended(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (401, "session_revoked"), answer.text
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_signing_out_ends_the_session_at_once(client: httpx.AsyncClient, people: People, owner: Any) -> None:
    patient = await people.patient()
    for _ in range(2):  # again when the answer was lost
        assert (await client.post("/api/auth/logout", headers=patient.headers)).status_code == 204
    assert (await refresh(client, patient)).json()["code"] == "invalid_refresh_token"
    assert_ended(await write(client, patient))
    assert (await client.get("/api/auth", headers=patient.headers)).status_code == 200
    (event,) = await revocations_of(owner, patient)
    assert str(event.session_id) == session_of(patient)
    assert 900 + 30 < (event.expires_at - datetime.now(UTC)).total_seconds() <= 1200


async def test_signing_out_leaves_the_other_sessions_alone(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    other = await people.signed_in("patients", patient.email)
    await client.post("/api/auth/logout", headers=patient.headers)
    assert (await write(client, other)).status_code == 200
    assert (await refresh(client, other)).status_code == 200


async def test_one_sees_where_one_is_signed_in(client: httpx.AsyncClient, people: People, owner: Any) -> None:
    first = await people.patient()
    body = {"email": first.email, "password": PASSWORD}
    answer = await client.post("/api/auth/login", json=body, headers={"User-Agent": "A browser/1.0" + "x" * 300})
    second = Person(answer.json()["user"], answer.json()["accessToken"], answer.json()["refreshToken"])
    await owner.execute("UPDATE sessions SET last_used_at = now() - interval '1 day' WHERE user_id = $1", first.id)
    assert (await refresh(client, first)).status_code == 200
    newest, oldest = await sessions_of(client, second)
    assert (newest["id"], newest["current"]) == (session_of(second), True)
    assert newest["userAgent"].startswith("A browser/1.0")
    assert len(newest["userAgent"]) == 200
    assert (oldest["id"], oldest["current"]) == (session_of(first), False)
    assert oldest.keys() == {"id", "createdAt", "lastUsedAt", "expiresAt", "userAgent", "current"}
    assert oldest["lastUsedAt"] > newest["lastUsedAt"]
    assert first.refresh_token not in msgspec.json.encode([newest, oldest]).decode()


async def test_ended_and_expired_sessions_are_not_listed(client: httpx.AsyncClient, people: People, owner: Any) -> None:
    ended = await people.patient()
    expired = await people.signed_in("patients", ended.email)
    live = await people.signed_in("patients", ended.email)
    await client.post("/api/auth/logout", headers=ended.headers)
    await owner.execute("UPDATE sessions SET expires_at = now() WHERE id = $1", session_of(expired))
    assert [one["id"] for one in await sessions_of(client, live)] == [session_of(live)]


async def test_a_long_list_of_sessions_comes_in_pages(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    others = [await people.signed_in("patients", patient.email) for _ in range(2)]
    found: list[str] = []
    query: dict[str, Any] = {"limit": 1}
    for _ in range(3):
        page = (await client.get("/api/auth/sessions", params=query, headers=patient.headers)).json()
        found += [one["id"] for one in page["items"]]
        query["cursor"] = page["nextCursor"]
    assert found == [session_of(person) for person in (*reversed(others), patient)]
    assert query["cursor"] is None


async def test_a_lost_device_is_signed_out_from_another(client: httpx.AsyncClient, people: People, owner: Any) -> None:
    lost = await people.patient()
    here = await people.signed_in("patients", lost.email)
    path = f"/api/auth/sessions/{session_of(lost)}"
    assert (await client.delete(path, headers=here.headers)).status_code == 204
    assert (await client.delete(path, headers=here.headers)).status_code == 404
    assert_ended(await write(client, lost))
    assert_ended(await client.delete(f"/api/auth/sessions/{session_of(here)}", headers=lost.headers))
    assert (await write(client, here)).status_code == 200
    assert [str(event.session_id) for event in await revocations_of(owner, lost)] == [session_of(lost)]


async def test_nobody_ends_somebody_elses_session(client: httpx.AsyncClient, people: People) -> None:
    patient, admin = await people.patient(), await people.admin()
    for other in (await people.patient(), admin):
        answer = await client.delete(f"/api/auth/sessions/{session_of(patient)}", headers=other.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await write(client, patient)).status_code == 200


async def test_the_session_of_a_stolen_token_ends_everywhere(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    successor = (await refresh(client, patient)).json()["refreshToken"]
    await client.post("/api/auth/refresh", json={"refreshToken": successor})
    assert (await refresh(client, patient)).status_code == 401
    assert_ended(await write(client, patient))
    assert [str(event.session_id) for event in await revocations_of(owner, patient)] == [session_of(patient)]


async def test_a_session_that_is_gone_writes_nothing(client: httpx.AsyncClient, people: People, owner: Any) -> None:
    patient = await people.patient()
    await owner.execute("DELETE FROM sessions WHERE user_id = $1", patient.id)
    assert_ended(await write(client, patient))
