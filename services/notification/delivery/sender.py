from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

import msgspec

from services.notification.delivery.schemas import Claim
from services.notification.notifying.schemas import Channel


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a sender composes. A message that contains a secret says when the secret expires."""

    recipient_id: UUID
    secret_expires_at: datetime | None = None


M = TypeVar("M", bound=Message)


class Sender(Protocol[M]):
    """A channel out of the app. `compose` and `send` raise a `Failure`, which says whether to attempt it again."""

    channel: Channel

    async def compose(self, claim: Claim) -> M: ...

    async def send(self, message: M) -> None:
        """Return when the receiving server has accepted the message."""

    async def hang_up(self) -> None:
        """Close connections that wait for another message."""
