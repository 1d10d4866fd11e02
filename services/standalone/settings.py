"""The settings of `make run`, all optional. The services read the other variables of the environment themselves."""

from typing import Annotated

from msgspec import Meta

from services.kit.settings import PostgresUrl, RedisUrl, ServerSettings
from services.notification.settings import MongoUrl

Email = Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254, description="an e-mail address")]
Password = Annotated[str, Meta(min_length=8, max_length=1024, description="at least 8 characters")]


class Settings(ServerSettings, frozen=True, kw_only=True):
    """Each URL replaces an embedded server. A migration URL is the owner's, if that is not the application's role."""

    data_dir: Annotated[str, Meta(min_length=1, description="a folder for the data")] = ".data"
    admin_email: Email = "admin@example.com"
    admin_password: Password | None = None
    auth_database_url: PostgresUrl | None = None
    auth_migration_database_url: PostgresUrl | None = None
    booking_database_url: PostgresUrl | None = None
    booking_migration_database_url: PostgresUrl | None = None
    redis_url: RedisUrl | None = None
    mongodb_url: MongoUrl | None = None
