"""What auth tells of a mail that it wants sent, when notification asks at its internal port just before it sends."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from services.contracts.enums import MailKind
from services.contracts.events import Instant


class Mail(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`token` is the secret of the link, good for once until `expires_at`: never stored, queued or logged."""

    id: UUID
    kind: MailKind
    user_id: UUID
    email: str
    full_name: str
    locale: str
    time_zone: str
    token: Annotated[str, Meta(min_length=1)]
    expires_at: Instant
