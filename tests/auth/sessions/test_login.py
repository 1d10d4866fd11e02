"""Logins, and what they cost."""

import asyncio
import threading
from time import time
from typing import Any

import httpx
import jwt
import msgspec
import pytest
from argon2 import PasswordHasher, extract_parameters

from services.contracts.tokens import AccessClaims
from tests.auth.people import People
from tests.auth.requests import (
    refresh,
)
from tests.support.canary import PASSWORD, new_email
from tests.support.waiting import eventually


async def _log_in(client: httpx.AsyncClient, kind: str, email: str, password: str = PASSWORD) -> httpx.Response:
    return await client.post(f"/api/{kind}/login", json={"email": email, "password": password})


async def test_every_role_signs_in_at_its_own_route_and_at_the_shared_one(
    client: httpx.AsyncClient, people: People
) -> None:
    patient, doctor, admin = await people.patient(), await people.pending_doctor(), await people.admin()
    for kind, person in (
        ("patients", patient),
        ("doctors", doctor),
        ("auth", patient),
        ("auth", doctor),
        ("auth", admin),
    ):
        answer = await _log_in(client, kind, person.email.upper())
        body = answer.json()
        assert answer.status_code == 200
        assert body["user"] == person.user
        assert (body["tokenType"], body["expiresIn"]) == ("Bearer", 900)
        own = await client.get("/api/auth", headers={"Authorization": f"Bearer {body['accessToken']}"})
        assert own.json() == person.user


async def test_a_refused_login_does_not_reveal_why(client: httpx.AsyncClient, people: People) -> None:
    patient, doctor, admin = await people.patient(), await people.pending_doctor(), await people.admin()
    answers = [
        await _log_in(client, "patients", patient.email, "wrong password"),
        await _log_in(client, "patients", patient.email, "x"),
        await _log_in(client, "patients", new_email()),
        await _log_in(client, "patients", doctor.email),
        await _log_in(client, "patients", admin.email),
        await _log_in(client, "doctors", patient.email),
        await _log_in(client, "auth", new_email()),
    ]
    bodies = [answer.json() for answer in answers]
    for body in bodies:
        del body["requestId"]
    assert {answer.status_code for answer in answers} == {401}
    assert all(body == bodies[0] for body in bodies)
    assert bodies[0]["code"] == "invalid_credentials"


async def test_an_unknown_address_costs_the_same_hash_as_a_wrong_password(
    client: httpx.AsyncClient, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing is nearly all of a login's time, so equal hashes take equal time."""
    verify, hashes = PasswordHasher.verify, []

    def record(self: PasswordHasher, password_hash: str, password: str) -> bool:
        hashes.append(password_hash)
        return verify(self, password_hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", record)
    for email in ((await people.patient()).email, new_email()):
        hashes.clear()
        assert (await _log_in(client, "patients", email, "wrong password")).status_code == 401
        assert [extract_parameters(one).memory_cost for one in hashes] == [19_456]
        assert [extract_parameters(one).time_cost for one in hashes] == [2]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "ada@example.com"},
        {"email": "ada@example.com", "password": ""},
        {"email": {"$gt": ""}, "password": {"$gt": ""}},
        {"email": "ada@example.com", "password": "p" * 1025},
        {"email": "ada@example.com\u0000", "password": PASSWORD},
        {"email": "ada@example.com", "password": PASSWORD, "role": "ADMIN"},
    ],
)
async def test_a_malformed_login_is_400(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await client.post("/api/auth/login", json=body)).status_code == 400


async def test_the_access_token_says_what_the_contract_says(people: People) -> None:
    patient = await people.patient()
    header = jwt.get_unverified_header(patient.access_token)
    claims = jwt.decode(patient.access_token, options={"verify_signature": False})
    decoded = msgspec.convert(claims, type=AccessClaims, strict=True)
    assert (header["alg"], header["typ"]) == ("EdDSA", "at+jwt")
    assert set(claims) == set(AccessClaims.__struct_fields__)
    assert str(decoded.sub) == patient.id
    assert decoded.exp - decoded.iat == 900
    assert abs(decoded.iat - time()) < 30
    assert (decoded.sid.version, decoded.jti.version) == (7, 7)


async def test_an_outdated_hash_is_renewed_at_login(client: httpx.AsyncClient, people: People, owner: Any) -> None:
    patient = await people.patient()
    weak = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD)
    await owner.execute("UPDATE users SET password_hash = $2 WHERE id = $1", patient.id, weak)
    assert (await _log_in(client, "patients", patient.email, "wrong password")).status_code == 401
    select = "SELECT password_hash, version, updated_at FROM users WHERE id = $1"
    before = await owner.fetchrow(select, patient.id)
    assert before["password_hash"] == weak
    assert (await _log_in(client, "patients", patient.email)).status_code == 200
    after = await owner.fetchrow(select, patient.id)
    assert after["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (after["version"], after["updated_at"]) == (before["version"], before["updated_at"])
    assert (await _log_in(client, "patients", patient.email)).status_code == 200


async def test_requests_are_answered_while_passwords_are_being_hashed(
    client: httpx.AsyncClient, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = await people.patient()
    verify, started, released = PasswordHasher.verify, threading.Event(), threading.Event()

    def verify_when_released(self: PasswordHasher, password_hash: str, password: str) -> bool:
        started.set()
        assert released.wait(10)
        return verify(self, password_hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", verify_when_released)
    logins = [asyncio.create_task(_log_in(client, "patients", patient.email)) for _ in range(30)]
    await eventually(started.is_set)
    assert (await client.get("/api/health/live")).status_code == 200
    assert not any(login.done() for login in logins)
    released.set()
    # A login that waits too long for its turn is refused, on a slow machine.
    statuses = {(await login).status_code for login in logins}
    assert {200} <= statuses <= {200, 503}


async def test_only_the_right_password_reveals_a_suspension(client: httpx.AsyncClient, people: People) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    suspend = f"/api/doctors/{doctor.id}/suspend"
    assert (await client.post(suspend, params={"onConflict": "keep"}, headers=admin.headers)).status_code == 200
    right = await _log_in(client, "doctors", doctor.email)
    wrong = await _log_in(client, "doctors", doctor.email, "wrong password")
    refreshed = await refresh(client, doctor.refresh_token)
    assert (right.status_code, right.json()["code"]) == (401, "account_suspended")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_credentials")
    assert (refreshed.status_code, refreshed.json()["code"]) == (401, "account_suspended")
    await client.post(f"/api/doctors/{doctor.id}/approve", headers=admin.headers)
    assert (await refresh(client, doctor.refresh_token)).status_code == 200
