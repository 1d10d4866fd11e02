from typing import Annotated

import msgspec
from msgspec import Meta

from services.kit.settings import HttpUrl, PostgresUrl, RetentionMonths, Secret, ServiceSettings

Limit = Annotated[
    int, Meta(ge=0, le=1_000_000, description="a limit on what a patient may have booked from now on, 0: any number")
]


class Settings(ServiceSettings, frozen=True, kw_only=True):
    booking_database_url: PostgresUrl
    auth_internal_url: HttpUrl
    auth_to_booking_token: Secret
    booking_to_auth_token: Secret
    jwks_url: HttpUrl
    patient_bookings_per_hour: Annotated[
        int, Meta(ge=0, description="requests for an appointment that a patient may make in an hour, 0: any number")
    ] = 60
    appointment_writes_per_hour: Annotated[
        int, Meta(ge=0, description="bookings and changes that an account may ask for in an hour, 0: any number")
    ] = 300
    open_appointments_per_patient: Limit = 60
    open_hours_per_patient: Limit = 60
    open_appointments_per_doctor: Limit = 52
    open_hours_per_doctor: Limit = 30
    unverified_open_appointments: Limit = 5
    unverified_open_hours: Limit = 5


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    """Settings of the commands that need only the database."""

    booking_database_url: PostgresUrl


class MigrationSettings(DatabaseSettings, frozen=True, kw_only=True):
    booking_migration_database_url: PostgresUrl
    audit_retention_months: RetentionMonths = 24
