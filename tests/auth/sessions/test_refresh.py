"""Refresh tokens, each of which works once."""

import asyncio
from time import time

import asyncpg
import httpx
import jwt
import pytest

from tests.auth.people import People, Person
from tests.auth.requests import (
    refresh,
)


async def _age_rotations(owner: asyncpg.Connection, person: Person, seconds: int) -> None:
    """Move the time at which the person's tokens were spent into the past."""
    await owner.execute(
        "UPDATE refresh_tokens SET rotated_at = rotated_at - make_interval(secs => $2) FROM sessions "
        "WHERE sessions.id = session_id AND user_id = $1",
        person.id,
        seconds,
    )


async def test_a_refresh_spends_the_token_for_its_successor(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    first = await refresh(client, patient.refresh_token)
    assert first.status_code == 200
    assert first.json()["user"] == patient.user
    second = await refresh(client, first.json()["refreshToken"])
    assert second.status_code == 200
    tokens = {patient.refresh_token, first.json()["refreshToken"], second.json()["refreshToken"]}
    assert len(tokens) == 3
    sessions = {
        jwt.decode(token, options={"verify_signature": False})["sid"]
        for token in (patient.access_token, first.json()["accessToken"], second.json()["accessToken"])
    }
    assert len(sessions) == 1


async def test_retries_after_a_lost_reply_get_the_same_successor(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    answers = await asyncio.gather(*(refresh(client, patient.refresh_token) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refreshToken"] for answer in answers}) == 1


async def test_a_token_reused_after_the_grace_period_ends_its_session(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    successor = (await refresh(client, patient.refresh_token)).json()["refreshToken"]
    await _age_rotations(owner, patient, 9)
    assert (await refresh(client, patient.refresh_token)).json()["refreshToken"] == successor
    await _age_rotations(owner, patient, 2)
    answer = await refresh(client, patient.refresh_token)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_refresh_token")
    assert (await refresh(client, successor)).status_code == 401


async def test_a_token_reused_after_its_successor_ends_the_session(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    successor = (await refresh(client, patient.refresh_token)).json()["refreshToken"]
    newest = (await refresh(client, successor)).json()["refreshToken"]
    assert (await refresh(client, patient.refresh_token)).status_code == 401
    assert (await refresh(client, newest)).status_code == 401


async def test_a_theft_in_one_session_leaves_the_others_alone(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    other = await people.signed_in("patients", patient.email)
    await refresh(client, patient.refresh_token)
    await _age_rotations(owner, patient, 11)
    assert (await refresh(client, patient.refresh_token)).status_code == 401
    assert (await refresh(client, other.refresh_token)).status_code == 200


async def test_refreshing_does_not_extend_a_session(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    select = "SELECT expires_at FROM sessions WHERE user_id = $1"
    ends = await owner.fetchval(select, patient.id)
    token = (await refresh(client, patient.refresh_token)).json()["refreshToken"]
    assert await owner.fetchval(select, patient.id) == ends
    assert 29.9 * 86_400 < ends.timestamp() - time() < 30.1 * 86_400
    await owner.execute("UPDATE sessions SET expires_at = now() WHERE user_id = $1", patient.id)
    assert (await refresh(client, token)).status_code == 401


@pytest.mark.parametrize(
    ("token", "status"), [("", 400), ("\u0000", 400), ("a b", 400), ("x" * 201, 400), ("x" * 43, 401)]
)
async def test_an_unknown_refresh_token_is_refused(client: httpx.AsyncClient, token: str, status: int) -> None:
    assert (await refresh(client, token)).status_code == status


async def test_refresh_tokens_are_stored_as_hashes_only(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    successor = (await refresh(client, patient.refresh_token)).json()["refreshToken"]
    rows = await owner.fetch(
        "SELECT sessions::text || refresh_tokens::text AS row FROM refresh_tokens "
        "JOIN sessions ON sessions.id = session_id WHERE user_id = $1",
        patient.id,
    )
    assert len(rows) == 2
    for token in (patient.refresh_token, successor):
        for row in rows:
            assert token not in row["row"]
            assert token.encode().hex() not in row["row"]
