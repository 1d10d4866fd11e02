"""Who can read the secret of a mail."""

import base64
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec

from services.contracts.enums import MailKind
from tests.auth.mailbox import TRUSTED, Mailbox
from tests.auth.people import People
from tests.auth.requests import (
    request_reset,
)


async def test_only_auth_can_derive_the_secret_of_a_mail(
    client: httpx.AsyncClient, people: People, mailbox: Mailbox, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    await request_reset(client, patient.email)
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


async def test_a_mail_is_served_on_the_internal_port_only(
    client: httpx.AsyncClient, internal: httpx.AsyncClient, people: People, mailbox: Mailbox
) -> None:
    patient = await people.patient()
    mail = await mailbox.newest(patient.email, MailKind.VERIFY_EMAIL)
    path = f"/internal/mails/{mail.id}"
    for headers in ({}, patient.headers, {"Authorization": "Bearer x"}):
        assert (await internal.get(path, headers=headers)).status_code == 401
    assert (await client.get(path, headers=TRUSTED)).status_code == 404
    assert (await internal.get(f"/internal/mails/{uuid4()}", headers=TRUSTED)).status_code == 404
