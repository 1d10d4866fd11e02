from typing import Annotated

from msgspec import Meta

from services.auth.users.schemas import GivenEmail, GivenPassword, Password
from services.kit.schema import Request, Wire

LinkToken = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9_-]+(?![\s\S])",
        description="The token of the link in the mail",
        examples=["Zx3qkU6mC9yqk1l0v4mEwq7vT2bq3T0m1hJr5oYtHnA"],
    ),
]


class PasswordChange(Request, frozen=True, kw_only=True):
    current_password: GivenPassword
    password: Password


class PasswordReset(Request, frozen=True, kw_only=True):
    email: GivenEmail


class PasswordResetConfirmation(Request, frozen=True, kw_only=True):
    token: LinkToken
    password: Password


class PasswordResetDone(Wire, frozen=True, kw_only=True):
    device_token: Annotated[str, Meta(examples=["Zx3qkU6mC9yqk1l0v4mEwq7vT2bq3T0m1hJr5oYtHnA"])]


class EmailVerification(Request, frozen=True, kw_only=True):
    token: LinkToken


class Accepted(Wire, frozen=True, kw_only=True):
    message: Annotated[str, Meta(examples=["If this address has an account, a mail to it is on its way"])]
