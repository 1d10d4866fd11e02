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
    PASSWORD_CHANGED = "PASSWORD_CHANGED"  # noqa: S105
    EMAIL_CHANGED = "EMAIL_CHANGED"
    MFA_ENABLED = "MFA_ENABLED"
    MFA_DISABLED = "MFA_DISABLED"


class AppointmentStatus(StrEnum):
    PENDING = "PENDING"
    CONFIRMED = "CONFIRMED"
    COMPLETED = "COMPLETED"
    NO_SHOW = "NO_SHOW"
    CANCELLED = "CANCELLED"


class AppointmentMode(StrEnum):
    IN_PERSON = "IN_PERSON"
    VIDEO = "VIDEO"
    PHONE = "PHONE"


class BookableBy(StrEnum):
    """Who may book an appointment type. The doctor and admins are the staff, who may book every type."""

    EVERYONE = "EVERYONE"
    KNOWN_PATIENTS = "KNOWN_PATIENTS"
    STAFF = "STAFF"
