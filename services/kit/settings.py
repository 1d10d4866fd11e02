"""Typed settings, read once at the start from environment variables. Nothing else in the platform reads them."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta

from services.kit.postgres_url import parse as parse_postgres_url
from services.kit.urls import check_http_url, check_redis_url

S = TypeVar("S", bound=msgspec.Struct)


def url(schemes: str, example: str, check: Callable[[str], object]) -> Meta:
    """Describe a URL that `check` takes. It raises `ValueError` with what is wrong, but without any part of the URL."""
    pattern = rf"^({schemes})://[^\x00-\x20]+(?![\s\S])"
    return Meta(pattern=pattern, description=f"a URL such as {example}", extra={"check": check})


PostgresUrl = Annotated[str, url("postgres(ql)?", "postgresql://user:password@host:5432/name", parse_postgres_url)]
RedisUrl = Annotated[str, url("rediss?", "redis://:password@host:6379/0", check_redis_url)]
SmtpUrl = Annotated[
    str,
    Meta(
        pattern=r"^smtps?://([^\s:@/]+:[^\s:@/]+@)?([^\s:@/\[\]]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?/?$",
        description="a URL such as smtp://user:password@host:587 or smtps://host",
    ),
]
Mailbox = Annotated[
    str,
    Meta(
        pattern=r"^((\"([^\x00-\x1f\"\\]|\\[\"\\])+\"|[^\x00-\x1f<>@\"\\]+) <[^\s<>@]+@[^\s<>@]+>|[^\s<>@]+@[^\s<>@]+)"
        r"(?![\s\S])",
        description="an address such as no-reply@example.com or Example Clinic <no-reply@example.com>",
    ),
]
LinkBaseUrl = Annotated[
    str,
    Meta(
        pattern=r"^(https://[^\s?#@]+|http://(localhost|127\.0\.0\.1|\[::1\])([:/][^\s?#@]*)?)(?![\s\S])",
        description="an https URL such as https://app.example.com, or an http one of this machine",
    ),
]
HttpUrl = Annotated[str, url("https?", "http://auth:8000", check_http_url)]
FilePath = Annotated[str, Meta(min_length=1, description="the path of a PEM file")]
Port = Annotated[int, Meta(ge=0, le=65535, description="a port number, 0 for any free one")]
RetentionMonths = Annotated[int, Meta(ge=1, le=1200, description="months that audit entries are kept, 1 to 1200")]
Secret = Annotated[str, Meta(min_length=32, description="a random secret of at least 32 characters")]
_ORIGIN = (
    r"(?!http://[^,]*:80(?![0-9])|https://[^,]*:443(?![0-9]))https?://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])"
    r"(:[1-9][0-9]{0,4})?"
)


class SettingsError(Exception):
    """A setting is missing or malformed. The message has its name and what is expected, but never its value."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    """The settings of a process that serves. Environment names are upper case."""

    host: Annotated[str, Meta(min_length=1, description="the address to listen on")] = "127.0.0.1"
    port: Port = 8000
    log_level: Annotated[
        str, Meta(pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR")
    ] = "INFO"


class ServiceSettings(ServerSettings, frozen=True, kw_only=True):
    """The settings of every service, which a service extends by its own."""

    redis_url: RedisUrl
    jwt_issuer: Annotated[str, Meta(min_length=1, description="the `iss` of access tokens")] = "booking-platform"
    jwt_audience: Annotated[str, Meta(min_length=1, description="the `aud` of access tokens")] = "booking-platform"
    internal_port: Port = 9000
    internal_certificate_file: FilePath | None = None
    internal_key_file: FilePath | None = None
    internal_authority_file: FilePath | None = None
    trusted_proxy_hops: Annotated[
        int,
        Meta(ge=0, le=10, description="how many trusted proxies append to X-Forwarded-For on the way here, 0 to 10"),
    ] = 0
    cors_origins: Annotated[
        str,
        Meta(
            pattern=rf"^({_ORIGIN}(,{_ORIGIN})*)?(?![\s\S])",
            description="origins as browsers send them, such as https://app.example.com or http://localhost:3000, "
            "separated by commas: lower case, without a path, a slash at the end and the scheme's own port",
        ),
    ] = ""
    environment: Annotated[
        str, Meta(pattern="^(production|development|test)$", description="production, development or test")
    ] = "production"
    user_requests_per_minute: Annotated[
        int, Meta(ge=0, description="requests that one account may send to this service in a minute, 0 for no limit")
    ] = 600
    address_limits: Annotated[
        bool, Meta(description="`true` or `false`: whether requests without an account are limited by network address")
    ] = True
    failpoints: Annotated[
        str,
        Meta(
            pattern=r"^([a-z]+=(0(\.\d+)?|1)(,[a-z]+=(0(\.\d+)?|1))*)?$",
            description="pairs of a failpoint and a chance from 0 to 1, such as committed=0.05, separated by commas",
        ),
    ] = ""
    drain_delay_seconds: Annotated[
        float,
        Meta(ge=0, le=300, description="seconds between readiness turning 503 and the listener closing, 0 to 300"),
    ] = 0.0
    shutdown_seconds: Annotated[
        int, Meta(ge=1, le=600, description="seconds that requests in flight have to finish, 1 to 600")
    ] = 20


def load(cls: type[S], environment: Mapping[str, str]) -> S:
    """Read `cls` from `environment`; raise `SettingsError` for the first setting that is missing or malformed.

    Numbers and booleans are text there, and an empty value counts as missing.
    """
    names = {field.encode_name: field.name for field in msgspec.structs.fields(cls)}
    present = {name: environment[name] for name in names if environment.get(name)}
    for name, value in present.items():
        if any("\ud800" <= character <= "\udfff" for character in value):  # Python's stand-in for such a byte
            raise SettingsError(f"{name} is malformed: it is not UTF-8")
    hints = get_type_hints(cls, include_extras=True)
    try:
        loaded = msgspec.convert(present, cls, strict=False)
    except msgspec.ValidationError as error:
        # The text ends with "missing required field `NAME`" or "at `$.NAME`".
        name = str(error).split("`")[-2].removeprefix("$.")
        state = "malformed" if name in present else "missing"
        raise SettingsError(f"{name} is {state}: expected {_meta(hints[names[name]]).description}") from None
    for name, value in present.items():
        meta = _meta(hints[names[name]])
        if check := (meta.extra or {}).get("check"):
            try:
                check(value)
            except ValueError as error:
                raise SettingsError(f"{name} is malformed: expected {meta.description}, but {error}") from None
    return loaded


def _meta(hint: Any) -> Meta:
    for part in (hint, *get_args(hint)):  # an optional one is a union
        for meta in getattr(part, "__metadata__", ()):
            if isinstance(meta, Meta) and meta.description:
                return meta
    return Meta(description=getattr(hint, "__name__", str(hint)))
