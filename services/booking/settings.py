from typing import Annotated

import msgspec
from msgspec import Meta

from services.kit.settings import HttpUrl, PostgresUrl, RetentionMonths, Secret, ServiceSettings


class Settings(ServiceSettings, frozen=True, kw_only=True):
    booking_database_url: PostgresUrl
    auth_internal_url: HttpUrl
    auth_to_booking_token: Secret
    booking_to_auth_token: Secret
    jwks_url: HttpUrl
    patient_bookings_per_hour: Annotated[
        int, Meta(ge=0, description="requests for an appointment that a patient may make in an hour, 0: any number")
    ] = 60


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    """Settings of the commands that need only the database."""

    booking_database_url: PostgresUrl


class MigrationSettings(DatabaseSettings, frozen=True, kw_only=True):
    booking_migration_database_url: PostgresUrl
    audit_retention_months: RetentionMonths = 24
