"""What the API shows of an account, and the types of its fields."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from langcodes import standardize_tag
from langcodes.tag_parser import LanguageTagError
from msgspec import UNSET, Meta, UnsetType

from services.auth.users.addresses import canonical, lookup_form
from services.auth.users.passwords import MIN_LENGTH, new_password
from services.contracts.enums import Role, UserStatus
from services.kit.schema import Line, Wire, form
from services.kit.zones import chosen_zone

# Whatever has a meaning in a mail header (blanks, commas, brackets), but no letter of any language.
_ADDRESS_PART = r"[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f-\x9f]+"


def _language_tag(tag: str) -> str:
    """Return the tag in its usual letters, such as `de-AT` for `DE-at`."""
    try:
        return standardize_tag(tag)
    except LanguageTagError:
        raise ValueError("Expected a language tag such as en or pt-BR") from None


Name = Annotated[Line, Meta(examples=["Ada Brandt"])]
Speciality = Annotated[Line, Meta(examples=["Cardiology"])]
_ADDRESS = Meta(
    min_length=3,
    max_length=254,
    pattern=rf"^{_ADDRESS_PART}@{_ADDRESS_PART}(?![\s\S])",
    description="An e-mail address; upper and lower case are the same, and answers have it in lower case",
    examples=["ada@example.com"],
)
Email = Annotated[str, _ADDRESS, form(canonical)]
GivenEmail = Annotated[str, _ADDRESS, form(lookup_form)]  # of an account that may exist
# Some implementations of argon2 take a NUL for the end of the password.
Password = Annotated[
    str,
    Meta(min_length=MIN_LENGTH, max_length=1024, pattern=r"^[^\x00]*(?![\s\S])", examples=["correct horse"]),
    form(new_password),
]
# A password to compare: it may be shorter than new ones have to be, because rules change.
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
        max_length=64,
        pattern=r"^[A-Za-z0-9-]+(?![\s\S])",
        description="A language tag (BCP 47) such as `en`, `pt-BR` or `zh-Hant-TW`",
        examples=["en"],
    ),
    form(_language_tag),
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
    form(chosen_zone),
]
FEE_PATTERN = r"^(0|[1-9][0-9]{0,7})(\.[0-9]{1,2})?(?![\s\S])"
Fee = Annotated[str, Meta(max_length=11, pattern=FEE_PATTERN, description="A decimal number", examples=["99.50"])]
Experience = Annotated[int, Meta(ge=0, le=80, description="Years of practice", examples=[12])]


def _example(value: str) -> Meta:
    return Meta(examples=[value])


class Account(Wire, frozen=True, kw_only=True):
    """The fields that patients, doctors and admins share. The tag of each is its `role` on the wire. `timeZone` is null
    until the user chooses one.
    """

    id: UUID
    fullname: Annotated[str, _example("Ada Brandt")]
    status: UserStatus
    time_zone: Annotated[str, _example("Europe/Berlin")] | None
    locale: Annotated[str, _example("en")]
    created_at: datetime
    updated_at: datetime


class Patient(Account, frozen=True, kw_only=True, tag_field="role", tag=Role.PATIENT.value):
    email: Annotated[str, _example("ada@example.com")]
    email_verified_at: datetime | None
    pending_email: Annotated[str, _example("ada@example.org")] | None
    phone: Annotated[str, _example("+4930123456")] | None


class Admin(Account, frozen=True, kw_only=True, tag_field="role", tag=Role.ADMIN.value):
    email: Annotated[str, _example("ada@example.com")]
    email_verified_at: datetime | None
    pending_email: Annotated[str, _example("ada@example.org")] | None
    phone: Annotated[str, _example("+4930123456")] | None


class Doctor(Account, frozen=True, kw_only=True, tag_field="role", tag=Role.DOCTOR.value):
    """Only that doctor and admins see `email`, `emailVerifiedAt`, `pendingEmail` and `phone`."""

    speciality: Annotated[str, _example("Cardiology")] | None
    experience: Annotated[int, Meta(examples=[12])] | None
    consultation_fee: Annotated[str, _example("99.50")] | None
    email: Annotated[str, _example("ada@example.com")] | UnsetType = UNSET
    email_verified_at: datetime | UnsetType | None = UNSET
    pending_email: Annotated[str, _example("ada@example.org")] | UnsetType | None = UNSET
    phone: Annotated[str, _example("+4930123456")] | UnsetType | None = UNSET


OwnAccount = Patient | Doctor | Admin
KINDS: dict[str, type[OwnAccount]] = {Role.PATIENT: Patient, Role.DOCTOR: Doctor, Role.ADMIN: Admin}
