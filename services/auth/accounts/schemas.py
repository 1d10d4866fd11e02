from msgspec import UNSET, UnsetType

from services.auth.users.schemas import (
    Email,
    Experience,
    Fee,
    GivenPassword,
    Locale,
    Name,
    Password,
    Phone,
    Speciality,
    TimeZone,
)
from services.kit.schema import Request


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


class PatientSignUp(Request, frozen=True, kw_only=True):
    fullname: Name
    email: Email
    password: Password
    time_zone: TimeZone | None = None
    locale: Locale = "en"
    phone: Phone | None = None


class PatientUpdate(Request, frozen=True, kw_only=True):
    """An absent field stays, null clears. A new `email` needs `currentPassword`."""

    email: Email | UnsetType = UNSET
    current_password: GivenPassword | UnsetType = UNSET
    fullname: Name | UnsetType = UNSET
    time_zone: TimeZone | UnsetType | None = UNSET
    locale: Locale | UnsetType = UNSET
    phone: Phone | UnsetType | None = UNSET


class DoctorUpdate(PatientUpdate, frozen=True, kw_only=True):
    time_zone: TimeZone | UnsetType = UNSET
    speciality: Speciality | UnsetType | None = UNSET
    experience: Experience | UnsetType | None = UNSET
    consultation_fee: Fee | UnsetType | None = UNSET
