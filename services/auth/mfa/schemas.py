from typing import Annotated

from msgspec import Meta

from services.auth.users.schemas import GivenPassword
from services.kit.schema import Request, Wire

OTP_PATTERN = r"^[0-9A-Za-z\s-]{6,40}(?![\s\S])"
Otp = Annotated[
    str,
    Meta(
        max_length=40,
        pattern=OTP_PATTERN,
        description="The six digits of the authenticator app, or a recovery code; blanks and hyphens do not count",
        examples=["123456"],
    ),
]


class Enrolment(Request, frozen=True, kw_only=True):
    password: GivenPassword


class EnrolmentConfirmation(Request, frozen=True, kw_only=True):
    otp: Otp


class PendingFactor(Wire, frozen=True, kw_only=True):
    """`uri` is for a QR code and `secret` for typing. Both are shown only once."""

    secret: Annotated[str, Meta(examples=["JBSWY3DPEHPK3PXP"])]
    uri: Annotated[
        str, Meta(examples=["otpauth://totp/Example:ada%40example.com?secret=JBSWY3DPEHPK3PXP&issuer=Example"])
    ]


class RecoveryCodes(Wire, frozen=True, kw_only=True):
    """Each replaces a code at one login. They are shown only once."""

    recovery_codes: Annotated[list[str], Meta(examples=[["7h4k-9m2p-x3vq"]])]
