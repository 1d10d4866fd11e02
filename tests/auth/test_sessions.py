import asyncio
from time import perf_counter, time
from typing import Any

import httpx
import jwt
import msgspec
import pytest
from argon2 import PasswordHasher

from services.contracts.tokens import AccessClaims
from tests.auth.people import People, Person
from tests.support.canary import PASSWORD, new_email


async def _log_in(client: httpx.AsyncClient, kind: str, email: str, password: str = PASSWORD) -> httpx.Response:
    return await client.post(f"/api/{kind}/login", json={"email": email, "password": password})


async def _refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/api/auth/refresh", json={"refreshToken": token})


async def _age_rotations(owner: Any, person: Person, seconds: int) -> None:
    """Let the person's spent tokens have been spent some time ago."""
    await owner.execute(
        "UPDATE refresh_tokens SET rotated_at = rotated_at - make_interval(secs => $2) FROM sessions "
        "WHERE sessions.id = session_id AND user_id = $1",
        person.id,
        seconds,
    )


async def test_everybody_signs_in_by_their_own_door_and_by_the_common_one(
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


async def test_a_refused_login_does_not_tell_why(client: httpx.AsyncClient, people: People) -> None:
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


async def test_an_unknown_address_takes_as_long_as_a_wrong_password(client: httpx.AsyncClient, people: People) -> None:
    patients = [await people.patient() for _ in range(3)]
    fastest: dict[str, float] = {}
    # In turns, so that whatever else the machine does hits both; without a hash the answer is ten times as fast.
    for number in range(12):
        for kind, email in (("known", patients[number % 3].email), ("unknown", new_email())):
            started = perf_counter()
            assert (await _log_in(client, "patients", email, "wrong password")).status_code == 401
            fastest[kind] = min(fastest.get(kind, 60), perf_counter() - started)
    assert 0.5 < fastest["known"] / fastest["unknown"] < 2


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


async def test_thirty_logins_at_once_leave_the_service_responsive(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    logins = [asyncio.create_task(_log_in(client, "patients", patient.email)) for _ in range(30)]
    turns = 0
    while not all(login.done() for login in logins):
        assert (await client.get("/api/health/live")).status_code == 200
        await asyncio.sleep(0.005)
        turns += 1
    # Counted, not timed: with the hashes on the event loop 33 to 36 turns were seen, off it 102 to 154, the fewest on a
    # machine with eight other things to do.
    assert turns > 70
    # A machine that is too slow for thirty at once says so.
    statuses = {(await login).status_code for login in logins}
    assert {200} <= statuses <= {200, 503}


async def test_a_refresh_spends_the_token_for_its_successor(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    first = await _refresh(client, patient.refresh_token)
    assert first.status_code == 200
    assert first.json()["user"] == patient.user
    second = await _refresh(client, first.json()["refreshToken"])
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
    answers = await asyncio.gather(*(_refresh(client, patient.refresh_token) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refreshToken"] for answer in answers}) == 1


async def test_a_spent_token_that_comes_back_late_ends_the_whole_session(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    successor = (await _refresh(client, patient.refresh_token)).json()["refreshToken"]
    await _age_rotations(owner, patient, 9)
    assert (await _refresh(client, patient.refresh_token)).json()["refreshToken"] == successor
    await _age_rotations(owner, patient, 2)
    answer = await _refresh(client, patient.refresh_token)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_refresh_token")
    assert (await _refresh(client, successor)).status_code == 401


async def test_a_spent_token_ends_the_session_as_soon_as_its_successor_was_used(
    client: httpx.AsyncClient, people: People
) -> None:
    patient = await people.patient()
    successor = (await _refresh(client, patient.refresh_token)).json()["refreshToken"]
    newest = (await _refresh(client, successor)).json()["refreshToken"]
    assert (await _refresh(client, patient.refresh_token)).status_code == 401
    assert (await _refresh(client, newest)).status_code == 401


async def test_a_theft_in_one_session_leaves_the_others_alone(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    other = await people.signed_in("patients", patient.email)
    await _refresh(client, patient.refresh_token)
    await _age_rotations(owner, patient, 11)
    assert (await _refresh(client, patient.refresh_token)).status_code == 401
    assert (await _refresh(client, other.refresh_token)).status_code == 200


async def test_a_session_ends_for_good_however_often_it_was_renewed(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    select = "SELECT expires_at FROM sessions WHERE user_id = $1"
    ends = await owner.fetchval(select, patient.id)
    token = (await _refresh(client, patient.refresh_token)).json()["refreshToken"]
    assert await owner.fetchval(select, patient.id) == ends
    assert 29.9 * 86_400 < ends.timestamp() - time() < 30.1 * 86_400
    await owner.execute("UPDATE sessions SET expires_at = now() WHERE user_id = $1", patient.id)
    assert (await _refresh(client, token)).status_code == 401


@pytest.mark.parametrize(
    ("token", "status"), [("", 400), ("\u0000", 400), ("a b", 400), ("x" * 201, 400), ("x" * 43, 401)]
)
async def test_a_made_up_refresh_token_is_refused(client: httpx.AsyncClient, token: str, status: int) -> None:
    assert (await _refresh(client, token)).status_code == status


async def test_refresh_tokens_are_kept_as_hashes_only(client: httpx.AsyncClient, people: People, owner: Any) -> None:
    patient = await people.patient()
    successor = (await _refresh(client, patient.refresh_token)).json()["refreshToken"]
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


async def test_a_suspended_account_is_told_so_only_with_the_right_password(
    client: httpx.AsyncClient, people: People
) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    suspend = f"/api/doctors/{doctor.id}/suspend"
    assert (await client.post(suspend, params={"onConflict": "keep"}, headers=admin.headers)).status_code == 200
    right = await _log_in(client, "doctors", doctor.email)
    wrong = await _log_in(client, "doctors", doctor.email, "wrong password")
    refresh = await _refresh(client, doctor.refresh_token)
    assert (right.status_code, right.json()["code"]) == (401, "account_suspended")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_credentials")
    assert (refresh.status_code, refresh.json()["code"]) == (401, "account_suspended")
    await client.post(f"/api/doctors/{doctor.id}/approve", headers=admin.headers)
    assert (await _refresh(client, doctor.refresh_token)).status_code == 200


async def test_one_own_account_is_for_who_is_signed_in(client: httpx.AsyncClient, people: People) -> None:
    assert (await client.get("/api/auth")).status_code == 401
    bad = await client.get("/api/auth", headers={"Authorization": "Bearer x.y.z"})
    assert (bad.status_code, bad.json()["code"]) == (401, "invalid_token")
