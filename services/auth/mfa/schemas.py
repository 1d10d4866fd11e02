from typing import Annotated

from msgspec import Meta

from services.auth.accounts.schemas import GivenPassword
from services.kit.http.schema import Request, Wire

OTP_PATTERN = r"^[0-9A-Za-z-]{6,19}(?![\s\S])"
Otp = Annotated[
    str,
    Meta(
        max_length=19,
        pattern=OTP_PATTERN,
        description="The six digits that the authenticator app shows, or a recovery code",
        examples=["123456"],
    ),
]


class Enrolment(Request, frozen=True, kw_only=True):
    password: GivenPassword


class EnrolmentConfirmation(Request, frozen=True, kw_only=True):
    otp: Otp


class PendingFactor(Wire, frozen=True, kw_only=True):
    """`uri` is for a QR code, `secret` the same for typing: both are shown this once."""

    secret: Annotated[str, Meta(examples=["JBSWY3DPEHPK3PXP"])]
    uri: Annotated[
        str, Meta(examples=["otpauth://totp/Example:ada%40example.com?secret=JBSWY3DPEHPK3PXP&issuer=Example"])
    ]


class RecoveryCodes(Wire, frozen=True, kw_only=True):
    """Each signs in once in place of a code. They are shown this once."""

    recovery_codes: Annotated[list[str], Meta(examples=[["7h4k-9m2p-x3vq"]])]
