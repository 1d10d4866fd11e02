import msgspec

from services.kit.settings import HttpUrl, MongoUrl, ServiceSettings


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """The database is the one that MONGODB_URL names, else `notification`."""

    mongodb_url: MongoUrl
    jwks_url: HttpUrl
    auth_internal_url: HttpUrl


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    """For commands that need the database and nothing else."""

    mongodb_url: MongoUrl
