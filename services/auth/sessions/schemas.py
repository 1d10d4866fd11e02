from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from services.auth.mfa.schemas import Otp
from services.auth.users.schemas import GivenEmail, GivenPassword, OwnAccount
from services.kit.schema import Request, Wire


class Login(Request, frozen=True, kw_only=True):
    email: GivenEmail
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


_TOKEN = Meta(examples=["Zx3qkU6mC9yqk1l0v4mEwq7vT2bq3T0m1hJr5oYtHnA"])


class Refresh(Request, frozen=True, kw_only=True):
    refresh_token: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_-]+(?![\s\S])"), _TOKEN]


class SignedIn(Wire, frozen=True, kw_only=True):
    """`expiresIn` is the access token's life in seconds. `deviceToken` comes with a login: sent along with later ones
    it spares them the pauses that somebody else's wrong guesses bring about.
    """

    access_token: Annotated[str, Meta(examples=["eyJhbGciOiJFZERTQSJ9.e30.c2lnbmF0dXJl"])]
    refresh_token: Annotated[str, _TOKEN]
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: Annotated[int, Meta(examples=[900])]
    user: OwnAccount
    device_token: Annotated[str, _TOKEN] | UnsetType = UNSET


class OwnSession(Wire, frozen=True, kw_only=True):
    """A login. `lastUsedAt` is when its tokens were renewed last; `current` is the one that asks."""

    id: UUID
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    user_agent: Annotated[str, Meta(examples=["Mozilla/5.0"])] | None
    current: bool


class PublicKey(msgspec.Struct, frozen=True, kw_only=True):
    """An Ed25519 key (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: Annotated[str, Meta(examples=["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"])]
    kid: Annotated[str, Meta(examples=["2026-12-01"])]
    use: Literal["sig"]
    alg: Literal["EdDSA"]


class KeySet(msgspec.Struct, frozen=True, kw_only=True):
    keys: list[PublicKey]
