from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from services.auth.accounts.schemas import Email, GivenPassword, OwnAccount
from services.auth.mfa.schemas import Otp
from services.kit.schema import Request, Wire


class Login(Request, frozen=True, kw_only=True):
    email: Email
    password: GivenPassword
    otp: Otp | None = None
    device_token: (
        Annotated[
            str,
            Meta(
                max_length=200,
                pattern=r"^[A-Za-z0-9_-]+(?![\s\S])",
                description="`deviceToken` of an earlier login on this device",
            ),
        ]
        | None
    ) = None


class Refresh(Request, frozen=True, kw_only=True):
    refresh_token: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_-]+(?![\s\S])")]


class SignedIn(Wire, frozen=True, kw_only=True):
    """`expiresIn` is the access token's life in seconds. `deviceToken` comes with a login: sent along with later ones
    it spares them the pauses that somebody else's wrong guesses bring about.
    """

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int
    user: OwnAccount
    device_token: str | UnsetType = UNSET


class OwnSession(Wire, frozen=True, kw_only=True):
    """A login. `lastUsedAt` is when its tokens were renewed last; `current` is the one that asks."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    user_agent: str | None
    current: bool
