"""Passwords that are reset by a mailed link."""

import asyncio
import base64
from time import perf_counter
from uuid import uuid4

import asyncpg
import httpx
import pytest

from services.auth.mails.links import LinkTokens
from services.contracts.enums import MailKind
from tests.auth.mailbox import Mailbox
from tests.auth.people import People, Person
from tests.auth.requests import (
    NEW_PASSWORD,
    account_of,
    assert_refused,
    change_password,
    confirm_reset,
    login_status,
    request_reset,
    verify_email,
)
from tests.support.canary import PASSWORD, called, new_email


async def write(client: httpx.AsyncClient, person: Person) -> int:
    answer = await client.patch(f"/api/patients/{person.id}", json={"phone": None}, headers=person.headers)
    return answer.status_code


async def test_the_mailed_link_sets_a_new_password(client: httpx.AsyncClient, people: People, mailbox: Mailbox) -> None:
    patient = await people.patient(locale="de", timeZone="Europe/Berlin")
    assert (await request_reset(client, patient.email.upper())).status_code == 202
    mail = await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)
    assert (str(mail.user_id), mail.email, mail.full_name) == (patient.id, patient.email, called("Bo"))
    assert (mail.locale, mail.time_zone) == ("de", "Europe/Berlin")
    assert (await confirm_reset(client, mail.token)).status_code == 200
    assert await login_status(client, patient.email, PASSWORD) == 401
    assert await login_status(client, patient.email, NEW_PASSWORD) == 200
    assert await write(client, patient) == 401
    assert (await account_of(client, patient))["emailVerifiedAt"]


async def test_a_link_works_once(client: httpx.AsyncClient, people: People, mailbox: Mailbox) -> None:
    patient = await people.patient()
    await request_reset(client, patient.email)
    token = (await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)).token
    passwords = [f"{NEW_PASSWORD} {number}" for number in range(4)]
    answers = await asyncio.gather(*(confirm_reset(client, token, one) for one in passwords))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]
    assert_refused(await confirm_reset(client, token), 400, "invalid_link")
    assert await mailbox.mails(patient.email, MailKind.PASSWORD_RESET) == []


@pytest.mark.parametrize("by", ["expiry", "another reset", "a change of password", "another address"])
async def test_a_link_becomes_invalid_by(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox, owner: asyncpg.Connection, by: str
) -> None:
    patient = await people.patient()
    await request_reset(client, patient.email)
    token = (await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)).token
    if by == "expiry":
        await owner.execute("UPDATE mails SET expires_at = now() WHERE user_id = $1", patient.id)
    elif by == "another reset":
        await request_reset(client, patient.email)
        newer = await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)
        assert (await confirm_reset(client, newer.token)).status_code == 200
    elif by == "a change of password":
        assert (await change_password(client, patient)).status_code == 204
    else:
        await owner.execute("UPDATE users SET email = $2 WHERE id = $1", patient.id, new_email())
    assert_refused(await confirm_reset(client, token, "yet another horse"), 400, "invalid_link")
    assert await mailbox.mails(patient.email, MailKind.PASSWORD_RESET) == []


async def test_a_reset_request_does_not_reveal_whether_the_address_has_an_account(
    client: httpx.AsyncClient, people: People
) -> None:
    known = await people.patient()
    bodies, seconds = set(), []
    for email in (known.email, new_email()):
        started = perf_counter()
        answer = await request_reset(client, email)
        seconds.append(perf_counter() - started)
        assert answer.status_code == 202
        bodies.add(answer.content)
    assert len(bodies) == 1
    assert min(seconds) >= 0.25


async def test_a_forged_link_is_refused(client: httpx.AsyncClient, people: People, mailbox: Mailbox) -> None:
    patient = await people.patient()
    await request_reset(client, patient.email)
    mail = await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)
    by_another_key = LinkTokens([b"x" * 32]).token_of(mail.id)
    unknown = base64.urlsafe_b64encode(uuid4().bytes + b"\0" * 32).decode()
    for token in (by_another_key, unknown, mail.token[:-4], mail.token[:-4] + "AAAA", "x", "x" * 200, mail.id.hex):
        assert_refused(await confirm_reset(client, token), 400, "invalid_link")
        assert_refused(await verify_email(client, token), 400, "invalid_link")
    assert_refused(await verify_email(client, mail.token), 400, "invalid_link")
    assert (await confirm_reset(client, mail.token)).status_code == 200
