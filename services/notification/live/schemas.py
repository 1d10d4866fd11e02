from datetime import datetime
from typing import Annotated

from msgspec import Meta

from services.kit.schema import Wire


class StreamTicket(Wire, frozen=True):
    """A ticket that opens one stream, once, until `expires_at`."""

    ticket: Annotated[str, Meta(examples=["Zx3qkU6mC9yqk1l0v4mEwq7vT2bq3T0m1hJr5oYtHnA"])]
    expires_at: datetime
