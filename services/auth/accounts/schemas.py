from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from services.auth.accounts.addresses import canonicalize
from services.contracts.enums import Role, UserStatus
from services.kit.http.schema import Line, Request, Wire

# Whatever has meaning in a mail header (blanks, commas, brackets) is refused, letters of any language are not. An
# address with blanks around it is refused like one with blanks inside: it is stored as it was given.
_ADDRESS_PART = r"[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f-\x9f]+"
Name = Annotated[Line, Meta(examples=["Ada Brandt"])]
Speciality = Annotated[Line, Meta(examples=["Cardiology"])]
Email = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=254,
        pattern=rf"^{_ADDRESS_PART}@{_ADDRESS_PART}(?![\s\S])",
        description="An e-mail address; upper and lower case are the same, and answers have it in lower case",
        examples=["ada@example.com"],
    ),
]
# A NUL would end the password early in some other implementation of argon2.
Password = Annotated[
    str, Meta(min_length=8, max_length=1024, pattern=r"^[^\x00]*(?![\s\S])", examples=["correct horse"])
]
# To be compared only: what an account has was chosen by the rules of its time.
GivenPassword = Annotated[
    str, Meta(min_length=1, max_length=1024, pattern=r"^[^\x00]*(?![\s\S])", examples=["correct horse"])
]
Phone = Annotated[
    str,
    Meta(
        max_length=16,
        pattern=r"^\+[1-9][0-9]{6,14}(?![\s\S])",
        description="E.164: a plus sign, the country code and the number, digits only",
        examples=["+4930123456"],
    ),
]
Locale = Annotated[
    str,
    Meta(
        max_length=12,
        pattern=r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?(?![\s\S])",
        description="A language tag such as `en`, `pt-BR` or `zh-Hant-TW`",
        examples=["en"],
    ),
]
TimeZone = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_+/-]+(?![\s\S])",
        description="An IANA time zone",
        examples=["Europe/Berlin"],
    ),
]
FEE_PATTERN = r"^(0|[1-9][0-9]{0,7})(\.[0-9]{1,2})?(?![\s\S])"
Fee = Annotated[str, Meta(max_length=11, pattern=FEE_PATTERN, description="A decimal number", examples=["99.50"])]
Experience = Annotated[int, Meta(ge=0, le=80, description="Years of practice", examples=[12])]


class DoctorSignUp(Request, frozen=True, kw_only=True):
    fullname: Name
    email: Email
    password: Password
    speciality: Speciality
    experience: Experience
    consultation_fee: Fee
    time_zone: TimeZone
    locale: Locale = "en"
    phone: Phone | None = None

    def __post_init__(self) -> None:
        canonicalize(self)


class PatientSignUp(Request, frozen=True, kw_only=True):
    fullname: Name
    email: Email
    password: Password
    time_zone: TimeZone = "UTC"
    locale: Locale = "en"
    phone: Phone | None = None

    def __post_init__(self) -> None:
        canonicalize(self)


class PatientUpdate(Request, frozen=True, kw_only=True):
    """Absent stays as it is, null is cleared. A new `email` needs `currentPassword`."""

    email: Email | UnsetType = UNSET
    current_password: GivenPassword | UnsetType = UNSET
    fullname: Name | UnsetType = UNSET
    time_zone: TimeZone | UnsetType = UNSET
    locale: Locale | UnsetType = UNSET
    phone: Phone | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        canonicalize(self)


class DoctorUpdate(PatientUpdate, frozen=True, kw_only=True):
    speciality: Speciality | UnsetType | None = UNSET
    experience: Experience | UnsetType | None = UNSET
    consultation_fee: Fee | UnsetType | None = UNSET


def _shown(example: str) -> Meta:
    return Meta(examples=[example])


class Account(Wire, frozen=True, kw_only=True):
    """What the three kinds have in common. Their tag is the `role` on the wire."""

    id: UUID
    fullname: Annotated[str, _shown("Ada Brandt")]
    status: UserStatus
    time_zone: Annotated[str, _shown("Europe/Berlin")]
    locale: Annotated[str, _shown("en")]
    created_at: datetime
    updated_at: datetime


class Patient(Account, frozen=True, kw_only=True, tag_field="role", tag=Role.PATIENT.value):
    email: Annotated[str, _shown("ada@example.com")]
    email_verified_at: datetime | None
    phone: Annotated[str, _shown("+4930123456")] | None


class Admin(Account, frozen=True, kw_only=True, tag_field="role", tag=Role.ADMIN.value):
    email: Annotated[str, _shown("ada@example.com")]
    email_verified_at: datetime | None
    phone: Annotated[str, _shown("+4930123456")] | None


class Doctor(Account, frozen=True, kw_only=True, tag_field="role", tag=Role.DOCTOR.value):
    """`email`, `emailVerifiedAt` and `phone` are there for the doctor and for admins only."""

    speciality: Annotated[str, _shown("Cardiology")] | None
    experience: Annotated[int, Meta(examples=[12])] | None
    consultation_fee: Annotated[str, _shown("99.50")] | None
    email: Annotated[str, _shown("ada@example.com")] | UnsetType = UNSET
    email_verified_at: datetime | UnsetType | None = UNSET
    phone: Annotated[str, _shown("+4930123456")] | UnsetType | None = UNSET


OwnAccount = Patient | Doctor | Admin
KINDS: dict[str, type[OwnAccount]] = {Role.PATIENT: Patient, Role.DOCTOR: Doctor, Role.ADMIN: Admin}
