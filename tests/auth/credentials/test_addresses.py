"""E-mail addresses that change and are verified."""

from typing import Any

import asyncpg
import httpx

from services.contracts.enums import MailKind
from tests.auth.mailbox import Mailbox
from tests.auth.people import People, Person
from tests.auth.requests import (
    account_of,
    assert_refused,
    confirm_reset,
    login_status,
    request_reset,
    verify_email,
)
from tests.support.canary import PASSWORD, new_email


async def change_email(client: httpx.AsyncClient, person: Person, email: str, **body: Any) -> httpx.Response:
    path = f"/api/{'doctors' if person.user['role'] == 'DOCTOR' else 'patients'}/{person.id}"
    return await client.patch(path, json={"email": email, **body}, headers=person.headers)


async def test_a_new_address_takes_the_password_ends_other_sessions_and_counts_once_verified(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    for other in (await people.patient(), await people.pending_doctor()):
        here = await people.signed_in("auth", other.email)
        await verify_email(client, (await mailbox.newest(other.email, MailKind.VERIFY_EMAIL)).token)
        await request_reset(client, other.email)
        reset = await mailbox.newest(other.email, MailKind.PASSWORD_RESET)
        email = new_email()
        answer = await change_email(client, here, email, currentPassword=PASSWORD)
        assert (answer.status_code, answer.json()["email"], answer.json()["pendingEmail"]) == (200, other.email, email)
        assert await login_status(client, email, PASSWORD) == 401
        assert await login_status(client, other.email, PASSWORD) == 200
        assert (await client.post("/api/auth/refresh", json={"refreshToken": other.refresh_token})).status_code == 401
        assert_refused(await confirm_reset(client, reset.token), 400, "invalid_link")
        assert (
            await verify_email(client, (await mailbox.newest(email, MailKind.VERIFY_EMAIL)).token)
        ).status_code == 204
        own = (await client.get("/api/auth", headers=here.headers)).json()
        assert (own["email"], own["pendingEmail"]) == (email, None)
        assert await login_status(client, email, PASSWORD) == 200
        assert await login_status(client, other.email, PASSWORD) == 401
        assert (await account_of(client, here))["emailVerifiedAt"]


async def test_only_the_most_recently_requested_address_can_be_verified(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    patient, first, second = await people.patient(), new_email(), new_email()
    await change_email(client, patient, first, currentPassword=PASSWORD)
    link = (await mailbox.newest(first, MailKind.VERIFY_EMAIL)).token
    await change_email(client, patient, second, currentPassword=PASSWORD)
    assert_refused(await verify_email(client, link), 400, "invalid_link")
    assert (await verify_email(client, (await mailbox.newest(second, MailKind.VERIFY_EMAIL)).token)).status_code == 204
    assert await login_status(client, second, PASSWORD) == 200


async def test_an_address_that_was_taken_meanwhile_cannot_be_verified(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    patient, email = await people.patient(), new_email()
    await change_email(client, patient, email, currentPassword=PASSWORD)
    link = (await mailbox.newest(email, MailKind.VERIFY_EMAIL)).token
    await people.patient(email=email)
    assert_refused(await verify_email(client, link), 409, "email_taken")
    assert await login_status(client, patient.email, PASSWORD) == 200


async def test_an_address_does_not_change_without_the_right_password(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    answer = await change_email(client, patient, new_email())
    assert_refused(answer, 400, "invalid_request")
    assert [error["path"] for error in answer.json()["errors"]] == ["currentPassword"]
    assert_refused(await change_email(client, patient, new_email(), currentPassword="wrong"), 403, "wrong_password")
    taken = (await people.patient()).email
    assert_refused(await change_email(client, patient, taken.upper(), currentPassword=PASSWORD), 409, "email_taken")
    assert await login_status(client, patient.email, PASSWORD) == 200


async def test_only_the_owner_changes_an_address(client: httpx.AsyncClient, people: People) -> None:
    patient, admin = await people.patient(), await people.admin()
    body = {"email": new_email(), "currentPassword": PASSWORD}
    path = f"/api/patients/{patient.id}"
    for other, refusal in ((admin, (403, "forbidden")), (await people.patient(), (404, "not_found"))):
        assert_refused(await client.patch(path, json=body, headers=other.headers), *refusal)
    assert await login_status(client, patient.email, PASSWORD) == 200


async def test_the_link_mailed_at_sign_up_verifies_the_address(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    for person in (await people.patient(), await people.pending_doctor()):
        assert (await account_of(client, person))["emailVerifiedAt"] is None
        mail = await mailbox.newest(person.email, MailKind.VERIFY_EMAIL)
        assert_refused(await confirm_reset(client, mail.token), 400, "invalid_link")
        assert (await verify_email(client, mail.token)).status_code == 204
        assert (await account_of(client, person))["emailVerifiedAt"]
        assert_refused(await verify_email(client, mail.token), 400, "invalid_link")


async def test_one_event_announces_that_an_address_was_verified(
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


async def test_the_verification_mail_can_be_requested_again(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    patient = await people.patient()
    assert (await client.post("/api/auth/verify-email/request", headers=patient.headers)).status_code == 202
    first, second = await mailbox.mails(patient.email, MailKind.VERIFY_EMAIL)
    assert first.token != second.token
    assert (await verify_email(client, first.token)).status_code == 204
    again = await client.post("/api/auth/verify-email/request", headers=patient.headers)
    assert_refused(again, 409, "email_verified")


async def test_only_the_owner_sees_whether_an_address_is_verified(client: httpx.AsyncClient, people: People) -> None:
    doctor, patient = await people.doctor(), await people.patient()
    assert "emailVerifiedAt" not in (await client.get(f"/api/doctors/{doctor.id}", headers=patient.headers)).json()
