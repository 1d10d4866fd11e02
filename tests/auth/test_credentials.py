"""Passwords that change or are forgotten, and addresses that are verified."""

import asyncio
import base64
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec
import pytest

from services.auth.credentials.links import LinkTokens
from services.auth.users.passwords import Passwords
from services.contracts.enums import MailKind
from tests.auth.mailbox import TRUSTED, Mailbox
from tests.auth.people import People, Person, doctor_form, patient_form
from tests.support.canary import PASSWORD, called, new_email

NEW_PASSWORD = "another horse battery"


@pytest.fixture
def mailbox(owner: asyncpg.Connection, internal: httpx.AsyncClient) -> Mailbox:
    return Mailbox(owner, internal)


def assert_refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def log_in(client: httpx.AsyncClient, email: str, password: str) -> int:
    return (await client.post("/api/auth/login", json={"email": email, "password": password})).status_code


async def write(client: httpx.AsyncClient, person: Person) -> int:
    answer = await client.patch(f"/api/patients/{person.id}", json={"phone": None}, headers=person.headers)
    return answer.status_code


async def change_password(
    client: httpx.AsyncClient, person: Person, current: str = PASSWORD, new: str = NEW_PASSWORD
) -> httpx.Response:
    body = {"currentPassword": current, "password": new}
    return await client.post("/api/auth/password", json=body, headers=person.headers)


async def ask_for_reset(client: httpx.AsyncClient, email: str) -> httpx.Response:
    return await client.post("/api/auth/password-reset", json={"email": email})


async def confirm(client: httpx.AsyncClient, token: str, password: str = NEW_PASSWORD) -> httpx.Response:
    return await client.post("/api/auth/password-reset/confirm", json={"token": token, "password": password})


async def verify(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/api/auth/verify-email", json={"token": token})


async def verified_at(client: httpx.AsyncClient, person: Person) -> Any:
    return (await client.get("/api/auth", headers=person.headers)).json()["emailVerifiedAt"]


# Changing


async def test_a_new_password_takes_the_old_one_and_ends_the_other_sessions(
    client: httpx.AsyncClient, people: People
) -> None:
    other = await people.patient()
    here = await people.signed_in("patients", other.email)
    assert (await change_password(client, here)).status_code == 204
    assert await log_in(client, here.email, PASSWORD) == 401
    assert await log_in(client, here.email, NEW_PASSWORD) == 200
    assert (await write(client, here), await write(client, other)) == (200, 401)
    assert (await client.post("/api/auth/refresh", json={"refreshToken": other.refresh_token})).status_code == 401
    assert (await client.post("/api/auth/refresh", json={"refreshToken": here.refresh_token})).status_code == 200


async def test_a_wrong_current_password_changes_nothing(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    assert_refused(await change_password(client, patient, "wrong"), 403, "wrong_password")
    assert await log_in(client, patient.email, PASSWORD) == 200


async def test_of_two_changes_at_once_one_is_made(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    passwords = [f"{NEW_PASSWORD} {number}" for number in range(3)]
    answers = await asyncio.gather(*(change_password(client, patient, new=one) for one in passwords))
    assert sorted(answer.status_code for answer in answers) == [204, 403, 403]
    made = passwords[[answer.status_code for answer in answers].index(204)]
    assert await log_in(client, patient.email, made) == 200


async def test_a_login_that_the_change_overtakes_has_the_old_password(
    client: httpx.AsyncClient, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = await people.patient()
    verify, overtaken = Passwords.verify, False

    async def verify_late(self: Passwords, known: str | None, password: str) -> bool:
        nonlocal overtaken
        matches = await verify(self, known, password)
        if not overtaken:
            overtaken = True
            assert (await change_password(client, patient)).status_code == 204
        return matches

    monkeypatch.setattr(Passwords, "verify", verify_late)
    assert await log_in(client, patient.email, PASSWORD) == 401
    assert overtaken


async def test_an_ended_session_changes_no_password(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    await client.post("/api/auth/logout", headers=patient.headers)
    assert_refused(await change_password(client, patient), 401, "session_revoked")
    assert await log_in(client, patient.email, PASSWORD) == 200


# What is no password


@pytest.mark.parametrize("password", ["password", "PassWord1", "12345678", "qwertyuiop", "trustno1"])
async def test_a_password_that_everybody_has_is_refused_everywhere(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox, password: str
) -> None:
    patient = await people.patient()
    await ask_for_reset(client, patient.email)
    token = (await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)).token
    for answer in (
        await client.post("/api/patients/signup", json=patient_form(password=password)),
        await client.post("/api/doctors/signup", json=doctor_form(password=password)),
        await change_password(client, patient, new=password),
        await confirm(client, token, password),
    ):
        assert_refused(answer, 400, "invalid_request")
        assert [error["path"] for error in answer.json()["errors"]] == ["password"]
    assert (await confirm(client, token)).status_code == 200


async def test_one_own_address_is_no_password(client: httpx.AsyncClient) -> None:
    email = new_email()
    for password in (email.upper(), email.partition("@")[0]):
        answer = await client.post("/api/patients/signup", json=patient_form(email=email, password=password))
        assert_refused(answer, 400, "invalid_request")


@pytest.mark.parametrize("password", ["aaaaaaab", "        x", "пароль-длинный", "密码密码密码密码", "x" * 1024])
async def test_no_rule_says_which_characters_a_password_has(client: httpx.AsyncClient, password: str) -> None:
    form = patient_form(password=password)
    assert (await client.post("/api/patients/signup", json=form)).status_code == 201
    assert await log_in(client, form["email"], password) == 200


@pytest.mark.parametrize("text", [rb"12345678\ud800", rb"\udc00\ud80012345678", b"12345678\xed\xb3\xbf"])
async def test_half_a_surrogate_pair_is_no_text(client: httpx.AsyncClient, text: bytes) -> None:
    form = patient_form(password="0-0-0-0-0")
    for path, body in (
        ("/api/patients/signup", form),
        ("/api/auth/login", {"email": form["email"], "password": form["password"]}),
    ):
        raw = msgspec.json.encode(body).replace(b"0-0-0-0-0", text)
        answer = await client.post(path, content=raw, headers={"Content-Type": "application/json"})
        assert_refused(answer, 400, "malformed_json")


# Forgotten


async def test_who_forgot_the_password_chooses_a_new_one_by_the_mailed_link(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    patient = await people.patient(locale="de", timeZone="Europe/Berlin")
    assert (await ask_for_reset(client, patient.email.upper())).status_code == 202
    mail = await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)
    assert (str(mail.user_id), mail.email, mail.full_name) == (patient.id, patient.email, called("Bo"))
    assert (mail.locale, mail.time_zone) == ("de", "Europe/Berlin")
    assert (await confirm(client, mail.token)).status_code == 200
    assert await log_in(client, patient.email, PASSWORD) == 401
    assert await log_in(client, patient.email, NEW_PASSWORD) == 200
    assert await write(client, patient) == 401
    assert await verified_at(client, patient)


async def test_a_link_is_good_for_once(client: httpx.AsyncClient, people: People, mailbox: Mailbox) -> None:
    patient = await people.patient()
    await ask_for_reset(client, patient.email)
    token = (await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)).token
    passwords = [f"{NEW_PASSWORD} {number}" for number in range(4)]
    answers = await asyncio.gather(*(confirm(client, token, one) for one in passwords))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]
    assert_refused(await confirm(client, token), 400, "invalid_link")
    assert await mailbox.mails(patient.email, MailKind.PASSWORD_RESET) == []


@pytest.mark.parametrize("by", ["expiry", "another reset", "a change of password", "another address"])
async def test_a_link_loses_its_power_by(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox, owner: Any, by: str
) -> None:
    patient = await people.patient()
    await ask_for_reset(client, patient.email)
    token = (await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)).token
    if by == "expiry":
        await owner.execute("UPDATE mails SET expires_at = now() WHERE user_id = $1", patient.id)
    elif by == "another reset":
        await ask_for_reset(client, patient.email)
        newer = await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)
        assert (await confirm(client, newer.token)).status_code == 200
    elif by == "a change of password":
        assert (await change_password(client, patient)).status_code == 204
    else:
        await owner.execute("UPDATE users SET email = $2 WHERE id = $1", patient.id, new_email())
    assert_refused(await confirm(client, token, "yet another horse"), 400, "invalid_link")
    assert await mailbox.mails(patient.email, MailKind.PASSWORD_RESET) == []


async def test_whether_an_address_has_an_account_is_not_to_be_learned(
    client: httpx.AsyncClient, people: People
) -> None:
    known = await people.patient()
    bodies, seconds = set(), []
    for email in (known.email, new_email()):
        started = perf_counter()
        answer = await ask_for_reset(client, email)
        seconds.append(perf_counter() - started)
        assert answer.status_code == 202
        bodies.add(answer.content)
    assert len(bodies) == 1
    assert min(seconds) >= 0.25


async def test_a_made_up_link_is_refused(client: httpx.AsyncClient, people: People, mailbox: Mailbox) -> None:
    patient = await people.patient()
    await ask_for_reset(client, patient.email)
    mail = await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)
    by_another_key = LinkTokens([b"x" * 32]).token_of(mail.id)
    unknown = base64.urlsafe_b64encode(uuid4().bytes + b"\0" * 32).decode()
    for token in (by_another_key, unknown, mail.token[:-4], mail.token[:-4] + "AAAA", "x", "x" * 200, mail.id.hex):
        assert_refused(await confirm(client, token), 400, "invalid_link")
        assert_refused(await verify(client, token), 400, "invalid_link")
    assert_refused(await verify(client, mail.token), 400, "invalid_link")
    assert (await confirm(client, mail.token)).status_code == 200


# Another address


async def change_email(client: httpx.AsyncClient, person: Person, email: str, **body: Any) -> httpx.Response:
    path = f"/api/{'doctors' if person.user['role'] == 'DOCTOR' else 'patients'}/{person.id}"
    return await client.patch(path, json={"email": email, **body}, headers=person.headers)


async def test_a_new_address_takes_the_password_ends_other_sessions_and_counts_once_it_is_verified(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    for other in (await people.patient(), await people.pending_doctor()):
        here = await people.signed_in("auth", other.email)
        await verify(client, (await mailbox.newest(other.email, MailKind.VERIFY_EMAIL)).token)
        await ask_for_reset(client, other.email)
        reset = await mailbox.newest(other.email, MailKind.PASSWORD_RESET)
        email = new_email()
        answer = await change_email(client, here, email, currentPassword=PASSWORD)
        assert (answer.status_code, answer.json()["email"], answer.json()["pendingEmail"]) == (200, other.email, email)
        assert await log_in(client, email, PASSWORD) == 401
        assert await log_in(client, other.email, PASSWORD) == 200
        assert (await client.post("/api/auth/refresh", json={"refreshToken": other.refresh_token})).status_code == 401
        assert_refused(await confirm(client, reset.token), 400, "invalid_link")
        assert (await verify(client, (await mailbox.newest(email, MailKind.VERIFY_EMAIL)).token)).status_code == 204
        own = (await client.get("/api/auth", headers=here.headers)).json()
        assert (own["email"], own["pendingEmail"]) == (email, None)
        assert await log_in(client, email, PASSWORD) == 200
        assert await log_in(client, other.email, PASSWORD) == 401
        assert await verified_at(client, here)


async def test_only_the_newest_wish_for_an_address_can_be_verified(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    patient, first, second = await people.patient(), new_email(), new_email()
    await change_email(client, patient, first, currentPassword=PASSWORD)
    link = (await mailbox.newest(first, MailKind.VERIFY_EMAIL)).token
    await change_email(client, patient, second, currentPassword=PASSWORD)
    assert_refused(await verify(client, link), 400, "invalid_link")
    assert (await verify(client, (await mailbox.newest(second, MailKind.VERIFY_EMAIL)).token)).status_code == 204
    assert await log_in(client, second, PASSWORD) == 200


async def test_an_address_that_got_an_account_meanwhile_is_taken(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    patient, email = await people.patient(), new_email()
    await change_email(client, patient, email, currentPassword=PASSWORD)
    link = (await mailbox.newest(email, MailKind.VERIFY_EMAIL)).token
    await people.patient(email=email)
    assert_refused(await verify(client, link), 409, "email_taken")
    assert await log_in(client, patient.email, PASSWORD) == 200


async def test_an_address_stays_without_the_right_password(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    answer = await change_email(client, patient, new_email())
    assert_refused(answer, 400, "invalid_request")
    assert [error["path"] for error in answer.json()["errors"]] == ["currentPassword"]
    assert_refused(await change_email(client, patient, new_email(), currentPassword="wrong"), 403, "wrong_password")
    taken = (await people.patient()).email
    assert_refused(await change_email(client, patient, taken.upper(), currentPassword=PASSWORD), 409, "email_taken")
    assert await log_in(client, patient.email, PASSWORD) == 200


async def test_nobody_else_changes_an_address(client: httpx.AsyncClient, people: People) -> None:
    patient, admin = await people.patient(), await people.admin()
    body = {"email": new_email(), "currentPassword": PASSWORD}
    path = f"/api/patients/{patient.id}"
    for other, refusal in ((admin, (403, "forbidden")), (await people.patient(), (404, "not_found"))):
        assert_refused(await client.patch(path, json=body, headers=other.headers), *refusal)
    assert await log_in(client, patient.email, PASSWORD) == 200


# Verifying


async def test_signing_up_mails_a_link_that_verifies_the_address(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    for person in (await people.patient(), await people.pending_doctor()):
        assert await verified_at(client, person) is None
        mail = await mailbox.newest(person.email, MailKind.VERIFY_EMAIL)
        assert_refused(await confirm(client, mail.token), 400, "invalid_link")
        assert (await verify(client, mail.token)).status_code == 204
        assert await verified_at(client, person)
        assert_refused(await verify(client, mail.token), 400, "invalid_link")


async def test_the_other_services_hear_once_that_an_address_is_verified(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    mail = await mailbox.newest(patient.email, MailKind.VERIFY_EMAIL)
    assert (await client.post("/api/auth/verify-email", json={"token": mail.token})).status_code == 204
    await client.post("/api/auth/password-reset", json={"email": patient.email})
    reset = await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)
    body = {"token": reset.token, "password": "another horse battery"}
    assert (await client.post("/api/auth/password-reset/confirm", json=body)).status_code == 200
    rows = await owner.fetch(
        "SELECT type, version, payload->'user'->'emailVerified' AS verified FROM outbox"
        " WHERE aggregateid = $1 ORDER BY seq",
        patient.id,
    )
    assert [tuple(row) for row in rows] == [("UserRegistered", 1, "false"), ("UserUpdated", 2, "true")]


async def test_the_verifying_mail_can_be_asked_for_again(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    patient = await people.patient()
    assert (await client.post("/api/auth/verify-email/request", headers=patient.headers)).status_code == 202
    first, second = await mailbox.mails(patient.email, MailKind.VERIFY_EMAIL)
    assert first.token != second.token
    assert (await verify(client, first.token)).status_code == 204
    again = await client.post("/api/auth/verify-email/request", headers=patient.headers)
    assert_refused(again, 409, "email_verified")


async def test_nobody_else_sees_whether_an_address_is_verified(client: httpx.AsyncClient, people: People) -> None:
    doctor, patient = await people.doctor(), await people.patient()
    assert "emailVerifiedAt" not in (await client.get(f"/api/doctors/{doctor.id}", headers=patient.headers)).json()


# The secret


async def test_the_secret_of_a_mail_is_with_auth_alone(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox, owner: Any
) -> None:
    patient = await people.patient()
    await ask_for_reset(client, patient.email)
    mail = await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)
    raw = base64.urlsafe_b64decode(mail.token)
    assert UUID(bytes=raw[:16]) == mail.id
    kept = [
        row["row"]
        for table in ("mails", "outbox")
        for row in await owner.fetch(f"SELECT {table}::text AS row FROM {table}")
    ]
    for secret in (mail.token, raw[16:].hex()):
        assert not any(secret in row for row in kept)
    payload = await owner.fetchval("SELECT payload::text FROM outbox WHERE aggregateid = $1", str(mail.id))
    assert msgspec.json.decode(payload) == {
        "type": "MailRequested",
        "mailId": str(mail.id),
        "kind": "PASSWORD_RESET",
    }


async def test_a_mail_is_for_neighbours_only(
    client: httpx.AsyncClient, internal: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    patient = await people.patient()
    mail = await mailbox.newest(patient.email, MailKind.VERIFY_EMAIL)
    path = f"/internal/mails/{mail.id}"
    for headers in ({}, patient.headers, {"Authorization": "Bearer x"}):
        assert (await internal.get(path, headers=headers)).status_code == 401
    assert (await client.get(path, headers=TRUSTED)).status_code == 404
    assert (await internal.get(f"/internal/mails/{uuid4()}", headers=TRUSTED)).status_code == 404
