"""Changes of the password, and passwords that are refused."""

import asyncio

import httpx
import msgspec
import pytest

from services.auth.users.passwords import Match, Passwords
from services.contracts.enums import MailKind
from tests.auth.mailbox import Mailbox
from tests.auth.people import People, Person, doctor_form, patient_form
from tests.auth.requests import (
    NEW_PASSWORD,
    assert_refused,
    change_password,
    confirm_reset,
    login_status,
    request_reset,
)
from tests.support.canary import PASSWORD, new_email


async def write(client: httpx.AsyncClient, person: Person) -> int:
    answer = await client.patch(f"/api/patients/{person.id}", json={"phone": None}, headers=person.headers)
    return answer.status_code


async def test_a_new_password_takes_the_old_one_and_ends_the_other_sessions(
    client: httpx.AsyncClient, people: People
) -> None:
    other = await people.patient()
    here = await people.signed_in("patients", other.email)
    assert (await change_password(client, here)).status_code == 204
    assert await login_status(client, here.email, PASSWORD) == 401
    assert await login_status(client, here.email, NEW_PASSWORD) == 200
    assert (await write(client, here), await write(client, other)) == (200, 401)
    assert (await client.post("/api/auth/refresh", json={"refreshToken": other.refresh_token})).status_code == 401
    assert (await client.post("/api/auth/refresh", json={"refreshToken": here.refresh_token})).status_code == 200


async def test_a_wrong_current_password_changes_nothing(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    assert_refused(await change_password(client, patient, "wrong"), 403, "wrong_password")
    assert await login_status(client, patient.email, PASSWORD) == 200


async def test_only_one_of_several_concurrent_password_changes_succeeds(
    client: httpx.AsyncClient, people: People
) -> None:
    patient = await people.patient()
    passwords = [f"{NEW_PASSWORD} {number}" for number in range(3)]
    answers = await asyncio.gather(*(change_password(client, patient, new=one) for one in passwords))
    assert sorted(answer.status_code for answer in answers) == [204, 403, 403]
    made = passwords[[answer.status_code for answer in answers].index(204)]
    assert await login_status(client, patient.email, made) == 200


async def test_a_login_fails_if_the_password_changes_while_it_is_being_hashed(
    client: httpx.AsyncClient, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = await people.patient()
    verify, overtaken = Passwords.verify, False

    async def verify_late(self: Passwords, known: str | None, password: str) -> Match:
        nonlocal overtaken
        matches = await verify(self, known, password)
        if not overtaken:
            overtaken = True
            assert (await change_password(client, patient)).status_code == 204
        return matches

    monkeypatch.setattr(Passwords, "verify", verify_late)
    assert await login_status(client, patient.email, PASSWORD) == 401
    assert overtaken


async def test_an_ended_session_cannot_change_the_password(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    await client.post("/api/auth/logout", headers=patient.headers)
    assert_refused(await change_password(client, patient), 401, "session_revoked")
    assert await login_status(client, patient.email, PASSWORD) == 200


@pytest.mark.parametrize("password", ["password", "PassWord1", "12345678", "qwertyuiop", "trustno1"])
async def test_a_common_password_is_refused_everywhere(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox, password: str
) -> None:
    patient = await people.patient()
    await request_reset(client, patient.email)
    token = (await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)).token
    for answer in (
        await client.post("/api/patients/signup", json=patient_form(password=password)),
        await client.post("/api/doctors/signup", json=doctor_form(password=password)),
        await change_password(client, patient, new=password),
        await confirm_reset(client, token, password),
    ):
        assert_refused(answer, 400, "invalid_request")
        assert [error["path"] for error in answer.json()["errors"]] == ["password"]
    assert (await confirm_reset(client, token)).status_code == 200


async def test_the_own_email_address_is_refused_as_a_password(client: httpx.AsyncClient) -> None:
    email = new_email()
    for password in (email.upper(), email.partition("@")[0]):
        answer = await client.post("/api/patients/signup", json=patient_form(email=email, password=password))
        assert_refused(answer, 400, "invalid_request")


@pytest.mark.parametrize("password", ["aaaaaaab", "        x", "пароль-длинный", "密码密码密码密码", "x" * 1024])
async def test_a_password_may_have_any_characters(client: httpx.AsyncClient, password: str) -> None:
    form = patient_form(password=password)
    assert (await client.post("/api/patients/signup", json=form)).status_code == 201
    assert await login_status(client, form["email"], password) == 200


@pytest.mark.parametrize("text", [rb"12345678\ud800", rb"\udc00\ud80012345678", b"12345678\xed\xb3\xbf"])
async def test_a_lone_surrogate_is_malformed_json(client: httpx.AsyncClient, text: bytes) -> None:
    form = patient_form(password="0-0-0-0-0")
    for path, body in (
        ("/api/patients/signup", form),
        ("/api/auth/login", {"email": form["email"], "password": form["password"]}),
    ):
        raw = msgspec.json.encode(body).replace(b"0-0-0-0-0", text)
        answer = await client.post(path, content=raw, headers={"Content-Type": "application/json"})
        assert_refused(answer, 400, "malformed_json")
