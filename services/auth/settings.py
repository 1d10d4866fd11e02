from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from services.kit.settings import HttpUrl, PostgresUrl, RetentionMonths, Secret, ServiceSettings

KeysFile = Annotated[
    str,
    Meta(min_length=1, description="the path of the private signing keys, which `rotate-keys` makes"),
]


class Settings(ServiceSettings, frozen=True, kw_only=True):
    auth_database_url: PostgresUrl
    auth_signing_keys_file: KeysFile
    auth_secret_key: Secret
    # While the key is being changed: what was made under this one is still taken.
    auth_previous_secret_key: Secret | None = None
    booking_internal_url: HttpUrl
    auth_to_booking_token: Secret
    booking_to_auth_token: Secret
    notification_to_auth_token: Secret
    doctor_approval: Annotated[
        Literal["required", "automatic"], Meta(description="`required` or `automatic`: whether an admin admits doctors")
    ] = "required"
    admin_mfa: Annotated[
        Literal["optional", "required"],
        Meta(description="`optional` or `required`: whether an admin signs in without one-time codes"),
    ] = "optional"
    access_token_seconds: Annotated[
        int, Meta(ge=60, le=900, description="seconds that an access token lives, 60 to 900")
    ] = 900
    session_days: Annotated[
        int, Meta(ge=1, le=365, description="days after which everybody signs in anew, 1 to 365")
    ] = 30


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    """For commands that need the database and nothing else."""

    auth_database_url: PostgresUrl


class MigrationSettings(DatabaseSettings, frozen=True, kw_only=True):
    auth_migration_database_url: PostgresUrl
    audit_retention_months: RetentionMonths = 24


class KeySettings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    auth_signing_keys_file: KeysFile
