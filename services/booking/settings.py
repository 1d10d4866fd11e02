import msgspec

from services.kit.settings import HttpUrl, PostgresUrl, ServiceSettings


class Settings(ServiceSettings, frozen=True, kw_only=True):
    booking_database_url: PostgresUrl
    auth_internal_url: HttpUrl
    jwks_url: HttpUrl


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    """For commands that need the database and nothing else."""

    booking_database_url: PostgresUrl


class MigrationSettings(DatabaseSettings, frozen=True, kw_only=True):
    booking_migration_database_url: PostgresUrl
