import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from services.kit.settings import (
    HttpUrl,
    LinkBaseUrl,
    Mailbox,
    RetentionMonths,
    Secret,
    ServiceSettings,
    SmtpUrl,
    url,
)


def _check(mongodb_url: str) -> None:
    if mongodb_url.startswith("mongodb+srv:"):  # pymongo would look it up in DNS, which may be away now
        mongodb_url = re.sub(r"(?<=[?&])srv\w+=[^&]*&?", "", mongodb_url.replace("+srv", "", 1))
    try:
        parse_uri(mongodb_url)
    except (PyMongoError, ValueError, OSError):
        raise ValueError(
            "its host, a port or a parameter is malformed, or its user or password is not percent-encoded"
        ) from None


MongoUrl = Annotated[str, url(r"mongodb(\+srv)?", "mongodb://user:password@host:27017/name", _check)]


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """The database is the one that MONGODB_URL names, else `notification`. Without SMTP_URL nobody gets an e-mail.

    Under LINK_BASE_URL a web front end has the pages `reset-password` and `verify-email`, which the mails with a secret
    link to. Where there is none they have a code instead, for a client to ask for.
    """

    mongodb_url: MongoUrl
    jwks_url: HttpUrl
    auth_internal_url: HttpUrl
    notification_to_auth_token: Secret
    notification_secret_key: Secret
    # While the key is being changed: accepts what was signed with this one.
    notification_previous_secret_key: Secret | None = None
    smtp_url: SmtpUrl | None = None
    smtp_tls: Annotated[
        Literal["required", "opportunistic"],
        Meta(description="`required` or `opportunistic`: whether mails wait for a mail server that offers TLS"),
    ] = "required"
    mail_from: Mailbox | None = None
    link_base_url: LinkBaseUrl | None = None
    mails_per_pair_and_hour: Annotated[
        int, Meta(ge=0, description="mails an hour to one person about one other, 0: any number; more are put off")
    ] = 10
    mails_per_recipient_and_hour: Annotated[
        int, Meta(ge=0, description="mails an hour to one person about appointments, 0: any number; more are put off")
    ] = 60
    smtp_timeout_seconds: Annotated[float, Meta(ge=0.5, le=60, description="seconds that a send may take, to 60")] = (
        15.0
    )


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    """For commands that need the database and nothing else."""

    mongodb_url: MongoUrl
    audit_retention_months: RetentionMonths = 24


class MigrationSettings(DatabaseSettings, frozen=True, kw_only=True):
    """`mongodb_migration_url` is an administrator's: with it, `migrate` creates the user that `mongodb_url` names."""

    mongodb_migration_url: MongoUrl | None = None
