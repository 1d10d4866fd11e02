"""Mails that report a change of the account, with a link that takes the change back."""

from typing import Any

import asyncpg
import httpx
import pytest

from services.contracts.enums import MailKind
from services.contracts.mails import Mail
from tests.auth.mailbox import Mailbox
from tests.auth.mfa.authenticator import disable, enable_mfa, enrol
from tests.auth.people import People, Person
from tests.auth.requests import (
    NEW_PASSWORD,
    assert_refused,
    change_password,
    confirm_reset,
    log_in,
    login_status,
    request_reset,
    verify_email,
)
from tests.support.canary import PASSWORD, new_email

RECOVERED = "a third horse battery"


@pytest.fixture
async def patient(client: httpx.AsyncClient, people: People, mailbox: Mailbox) -> Person:
    """A patient whose address is verified."""
    patient = await people.patient()
    mail = await mailbox.newest(patient.email, MailKind.VERIFY_EMAIL)
    assert (await verify_email(client, mail.token)).status_code == 204
    return patient


async def request_address(client: httpx.AsyncClient, person: Person, password: str = PASSWORD) -> str:
    email = new_email()
    body = {"email": email, "currentPassword": password}
    answer = await client.patch(f"/api/patients/{person.id}", json=body, headers=person.headers)
    assert answer.status_code == 200, answer.text
    return email


async def take_over(client: httpx.AsyncClient, mailbox: Mailbox, person: Person) -> str:
    """Give the account another address, as a thief does who has the session and the password."""
    email = await request_address(client, person)
    mail = await mailbox.newest(email, MailKind.VERIFY_EMAIL)
    assert (await verify_email(client, mail.token)).status_code == 204
    return email


async def test_a_change_of_password_is_reported(client: httpx.AsyncClient, patient: Person, mailbox: Mailbox) -> None:
    assert (await change_password(client, patient)).status_code == 204
    (notice,) = await mailbox.mails(patient.email, MailKind.PASSWORD_CHANGED)
    assert (str(notice.user_id), notice.email) == (patient.id, patient.email)
    await request_reset(client, patient.email)
    reset = await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)
    assert (await confirm_reset(client, reset.token, RECOVERED)).status_code == 200
    (newer,) = await mailbox.mails(patient.email, MailKind.PASSWORD_CHANGED)
    assert newer.id != notice.id


async def test_a_requested_address_is_reported_to_the_present_one(
    client: httpx.AsyncClient, patient: Person, mailbox: Mailbox
) -> None:
    await request_address(client, patient)
    assert len(await mailbox.mails(patient.email, MailKind.EMAIL_CHANGED)) == 1


async def test_enabling_and_disabling_codes_is_reported(
    client: httpx.AsyncClient, patient: Person, mailbox: Mailbox
) -> None:
    await enrol(client, patient)
    assert (await disable(client, patient)).status_code == 204
    _, recovery_codes = await enable_mfa(client, patient)
    assert (await disable(client, patient, recovery_codes[0])).status_code == 204
    for kind in (MailKind.MFA_ENABLED, MailKind.MFA_DISABLED):
        assert len(await mailbox.mails(patient.email, kind)) == 1


async def test_an_address_that_was_never_verified_gets_no_notice(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    patient = await people.patient()
    await enable_mfa(client, patient)
    assert (await change_password(client, patient)).status_code == 204
    for kind in (MailKind.PASSWORD_CHANGED, MailKind.MFA_ENABLED):
        assert await mailbox.mails(patient.email, kind) == []


async def test_a_notice_gives_the_account_back_to_its_owner(
    client: httpx.AsyncClient, patient: Person, mailbox: Mailbox
) -> None:
    other = await take_over(client, mailbox, patient)
    await enable_mfa(client, patient)
    assert (await change_password(client, patient)).status_code == 204
    notice = await mailbox.newest(patient.email, MailKind.EMAIL_CHANGED)
    assert (await confirm_reset(client, notice.token, RECOVERED)).status_code == 200
    assert await login_status(client, other, NEW_PASSWORD) == 401
    assert_refused(await request_as(client, patient), 401, "session_revoked")
    recovered = await log_in(client, patient.email, RECOVERED)
    assert recovered.status_code == 200, recovered.text
    assert recovered.json()["user"]["email"] == patient.email
    assert_refused(await confirm_reset(client, notice.token, "yet another horse"), 400, "invalid_link")


async def request_as(client: httpx.AsyncClient, person: Person) -> httpx.Response:
    return await client.patch(f"/api/patients/{person.id}", json={"phone": None}, headers=person.headers)


async def test_a_thief_cannot_use_a_later_notice_against_the_owner(
    client: httpx.AsyncClient, people: People, patient: Person, mailbox: Mailbox
) -> None:
    other = await take_over(client, mailbox, patient)
    await change_password(client, patient)
    (later,) = await mailbox.mails(other, MailKind.PASSWORD_CHANGED)
    assert (await confirm_reset(client, later.token, "a password of the thief")).status_code == 200
    own = await mailbox.newest(patient.email, MailKind.EMAIL_CHANGED)
    assert (await confirm_reset(client, own.token, RECOVERED)).status_code == 200
    for mail in await notices(mailbox, other):
        assert_refused(await confirm_reset(client, mail.token, "once more the thief"), 400, "invalid_link")
    assert await login_status(client, patient.email, RECOVERED) == 200


async def notices(mailbox: Mailbox, email: str) -> list[Mail]:
    return [mail for kind in MailKind for mail in await mailbox.mails(email, kind)]


async def test_the_reader_of_the_mails_cannot_end_older_codes(
    client: httpx.AsyncClient, patient: Person, mailbox: Mailbox
) -> None:
    await enable_mfa(client, patient)
    assert (await change_password(client, patient)).status_code == 204
    notice = await mailbox.newest(patient.email, MailKind.PASSWORD_CHANGED)
    assert (await confirm_reset(client, notice.token, RECOVERED)).status_code == 200
    assert_refused(await log_in(client, patient.email, RECOVERED), 401, "mfa_required")


async def test_a_notice_ends_the_codes_that_it_reports(
    client: httpx.AsyncClient, patient: Person, mailbox: Mailbox
) -> None:
    await enable_mfa(client, patient)
    notice = await mailbox.newest(patient.email, MailKind.MFA_ENABLED)
    assert (await confirm_reset(client, notice.token, RECOVERED)).status_code == 200
    assert await login_status(client, patient.email, RECOVERED) == 200


async def test_a_notice_ends_a_requested_address(client: httpx.AsyncClient, patient: Person, mailbox: Mailbox) -> None:
    email = await request_address(client, patient)
    link = (await mailbox.newest(email, MailKind.VERIFY_EMAIL)).token
    notice = await mailbox.newest(patient.email, MailKind.EMAIL_CHANGED)
    assert (await confirm_reset(client, notice.token, RECOVERED)).status_code == 200
    assert_refused(await verify_email(client, link), 400, "invalid_link")


async def test_a_notice_works_for_seven_days(
    client: httpx.AsyncClient, patient: Person, mailbox: Mailbox, owner: asyncpg.Connection
) -> None:
    await change_password(client, patient)
    notice = await mailbox.newest(patient.email, MailKind.PASSWORD_CHANGED)
    days: Any = await owner.fetchval("SELECT expires_at - created_at FROM mails WHERE id = $1", notice.id)
    assert days.days == 7
    await owner.execute("UPDATE mails SET expires_at = now() WHERE id = $1", notice.id)
    assert_refused(await confirm_reset(client, notice.token, RECOVERED), 400, "invalid_link")


async def test_a_thief_cannot_keep_the_old_address_from_its_owner(
    client: httpx.AsyncClient, people: People, patient: Person, mailbox: Mailbox
) -> None:
    await take_over(client, mailbox, patient)
    squatter = await people.patient(email=patient.email)
    notice = await mailbox.newest(patient.email, MailKind.EMAIL_CHANGED)
    assert (await confirm_reset(client, notice.token, RECOVERED)).status_code == 200
    recovered = await log_in(client, patient.email, RECOVERED)
    assert recovered.json()["user"]["id"] == patient.id
    assert_refused(await request_as(client, squatter), 401, "session_revoked")


async def test_a_verified_holder_of_the_old_address_keeps_it(
    client: httpx.AsyncClient, people: People, patient: Person, mailbox: Mailbox
) -> None:
    other = await take_over(client, mailbox, patient)
    holder = await people.patient(email=patient.email)
    link = await mailbox.newest(patient.email, MailKind.VERIFY_EMAIL)
    assert (await verify_email(client, link.token)).status_code == 204
    notice = await mailbox.newest(patient.email, MailKind.EMAIL_CHANGED)
    assert_refused(await confirm_reset(client, notice.token, RECOVERED), 409, "email_taken")
    assert (await log_in(client, patient.email)).json()["user"]["id"] == holder.id
    assert await login_status(client, other) == 200


async def test_a_change_of_password_ends_a_requested_address(
    client: httpx.AsyncClient, patient: Person, mailbox: Mailbox
) -> None:
    email = await request_address(client, patient)
    link = await mailbox.newest(email, MailKind.VERIFY_EMAIL)
    assert (await change_password(client, patient)).status_code == 204
    assert_refused(await verify_email(client, link.token), 400, "invalid_link")


async def test_a_reset_ends_a_requested_address(client: httpx.AsyncClient, patient: Person, mailbox: Mailbox) -> None:
    email = await request_address(client, patient)
    link = await mailbox.newest(email, MailKind.VERIFY_EMAIL)
    await request_reset(client, patient.email)
    reset = await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)
    assert (await confirm_reset(client, reset.token, RECOVERED)).status_code == 200
    assert_refused(await verify_email(client, link.token), 400, "invalid_link")


async def test_the_present_address_cancels_a_requested_one(
    client: httpx.AsyncClient, patient: Person, mailbox: Mailbox
) -> None:
    email = await request_address(client, patient)
    link = await mailbox.newest(email, MailKind.VERIFY_EMAIL)
    body = {"email": patient.email, "currentPassword": PASSWORD}
    answer = await client.patch(f"/api/patients/{patient.id}", json=body, headers=patient.headers)
    assert (answer.status_code, answer.json()["pendingEmail"]) == (200, None)
    assert_refused(await verify_email(client, link.token), 400, "invalid_link")


async def test_a_reset_ends_older_notices_to_its_address(
    client: httpx.AsyncClient, patient: Person, mailbox: Mailbox
) -> None:
    await change_password(client, patient)
    notice = await mailbox.newest(patient.email, MailKind.PASSWORD_CHANGED)
    await request_reset(client, patient.email)
    reset = await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)
    assert (await confirm_reset(client, reset.token, RECOVERED)).status_code == 200
    assert_refused(await confirm_reset(client, notice.token, "an old mailbox's reader"), 400, "invalid_link")
