"""Closed sets of values. A reader refuses a value that it does not know: deploy it to the readers first."""

from enum import StrEnum


class Role(StrEnum):
    PATIENT = "PATIENT"
    DOCTOR = "DOCTOR"
    ADMIN = "ADMIN"


class UserStatus(StrEnum):
    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


class MailKind(StrEnum):
    PASSWORD_RESET = "PASSWORD_RESET"  # noqa: S105
    VERIFY_EMAIL = "VERIFY_EMAIL"


class AppointmentStatus(StrEnum):
    PENDING = "PENDING"
    CONFIRMED = "CONFIRMED"
    COMPLETED = "COMPLETED"
    NO_SHOW = "NO_SHOW"
    CANCELLED = "CANCELLED"
