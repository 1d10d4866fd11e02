"""The mails that auth wants sent. notification fetches each from auth's internal port just before it sends it."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from services.contracts.enums import MailKind
from services.contracts.events import Instant


class Mail(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`token` is the secret in the link, valid once and until `expires_at`. Never store, queue or log it."""

    id: UUID
    kind: MailKind
    user_id: UUID
    email: str
    full_name: str
    locale: str
    time_zone: str
    token: Annotated[str, Meta(min_length=1)]
    expires_at: Instant
