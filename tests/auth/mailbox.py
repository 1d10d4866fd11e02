"""The mails that auth requests, read as notification reads them."""

from typing import Any

import asyncpg
import httpx
import msgspec

from services.contracts.enums import MailKind
from services.contracts.events import MailRequested, decode_user_event
from services.contracts.mails import Mail
from tests.auth.internal_tokens import NOTIFICATION_TO_AUTH

TRUSTED = {"Authorization": f"Bearer {NOTIFICATION_TO_AUTH}"}


class Mailbox:
    def __init__(self, owner: asyncpg.Connection, internal: httpx.AsyncClient) -> None:
        self._owner, self._internal = owner, internal

    async def mails(self, email: str, kind: MailKind) -> list[Mail]:
        """Return the mails to an address that can still be sent, oldest first."""
        rows = await self._owner.fetch("SELECT payload::text FROM outbox WHERE type = 'MailRequested' ORDER BY seq")
        events = [decode_user_event(row["payload"]) for row in rows]
        ours = await self._owner.fetch("SELECT id FROM mails WHERE lower(email) = lower($1)", email)
        ids = {row["id"] for row in ours}
        wanted = [event.mail_id for event in events if isinstance(event, MailRequested) and event.mail_id in ids]
        answers: list[Any] = [await self._internal.get(f"/internal/mails/{id}", headers=TRUSTED) for id in wanted]
        mails = [msgspec.json.decode(one.content, type=Mail) for one in answers if one.status_code == 200]
        return [mail for mail in mails if mail.kind is kind]

    async def newest(self, email: str, kind: MailKind) -> Mail:
        return (await self.mails(email, kind))[-1]
