"""What `make run` can be told by its environment. All of it is optional."""

from typing import Annotated

import msgspec
from msgspec import Meta

from services.kit.settings import LinkBaseUrl, Mailbox, MongoUrl, Port, PostgresUrl, RedisUrl, SmtpUrl

Email = Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254, description="an e-mail address")]


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    host: Annotated[str, Meta(min_length=1, description="the address to listen on")] = "127.0.0.1"
    port: Port = 8000
    data_dir: Annotated[str, Meta(min_length=1, description="a folder for the data")] = ".data"
    log_level: Annotated[
        str, Meta(pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR")
    ] = "INFO"
    admin_email: Email = "admin@example.com"
    admin_password: Annotated[str, Meta(min_length=8, max_length=1024, description="at least 8 characters")] | None = (
        None
    )
    doctor_approval: Annotated[str, Meta(pattern="^(required|automatic)$", description="`required` or `automatic`")] = (
        "automatic"
    )
    user_requests_per_minute: Annotated[int, Meta(ge=0, description="a number, 0 for no limit")] = 600
    patient_bookings_per_hour: Annotated[int, Meta(ge=0, description="a number, 0 for no limit")] = 60
    # Each replaces an embedded server; a migration URL is the owner's, where that is another role.
    auth_database_url: PostgresUrl | None = None
    auth_migration_database_url: PostgresUrl | None = None
    booking_database_url: PostgresUrl | None = None
    booking_migration_database_url: PostgresUrl | None = None
    redis_url: RedisUrl | None = None
    mongodb_url: MongoUrl | None = None
    # People get e-mails when both are set.
    smtp_url: SmtpUrl | None = None
    mail_from: Mailbox | None = None
    link_base_url: LinkBaseUrl | None = None
