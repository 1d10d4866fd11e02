"""The URLs of stores and services, as settings have them. Each check raises `ValueError` with what is wrong."""

from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

# What asyncpg reads itself; the last three are the server's.
_POSTGRES = {
    *("host", "port", "user", "password", "passfile", "dbname", "database", "service", "target_session_attrs"),
    *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "gsslib"),
    *("application_name", "client_encoding", "options"),
}
# What hosting services print as well. asyncpg cannot bind channels or encrypt by GSSAPI: `sslmode=verify-full` proves
# the server's identity. Connections have limits of our own, which find a dead one before the keep-alives would. Whether
# there is a PgBouncer is found out.
_IGNORED = {
    *("channel_binding", "connect_timeout", "fallback_application_name", "gssencmode", "pgbouncer"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
}


class Credentials(NamedTuple):
    user: str
    password: str | None


def check_http_url(url: str) -> None:
    parts = _split(url)
    if parts.query or parts.fragment:
        raise ValueError("expected a URL without a query")


def check_redis_url(url: str) -> None:
    number = _split(url).path.removeprefix("/")
    if number and not number.isdecimal():
        raise ValueError("expected the number of a database as its path")


def check_mongo_url(url: str) -> None:
    parts = urlsplit(url)
    _refuse_unescaped(parts)
    for host in parts.netloc.rpartition("@")[2].split(","):
        _split(f"mongodb://{host}")


def check_postgres_url(url: str) -> None:
    parts = urlsplit(url)
    _refuse_unescaped(parts)
    named = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := named.keys() - _POSTGRES - _IGNORED:
        raise ValueError(f"its parameter `{min(unknown)}` is unknown")
    hosts = parts.netloc.rpartition("@")[2]
    if not hosts and "host" not in named and "service" not in named:
        raise ValueError("expected a host")
    for host in hosts.split(",") if hosts else ():
        _split(f"postgresql://{host}")


def asyncpg_url(url: str) -> str:
    """Return a PostgreSQL URL without what asyncpg would send to the server as a setting."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in _IGNORED]
    return parts._replace(query=urlencode(kept)).geturl()


def postgres_credentials(url: str) -> Credentials:
    parts = urlsplit(url)
    named = dict(parse_qsl(parts.query))
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    return Credentials(unquote(user) or named.get("user", ""), unquote(password) if colon else named.get("password"))


def _split(url: str) -> SplitResult:
    """Split a URL of one host; raise `ValueError` if it has none, or no number as its port."""
    parts = urlsplit(url)
    _refuse_unescaped(parts)
    try:
        port = parts.port
    except ValueError:
        raise ValueError("expected a port to 65535") from None
    if not parts.hostname or port == 0:
        raise ValueError("expected a host" if port != 0 else "expected a port to 65535")
    return parts


def _refuse_unescaped(parts: SplitResult) -> None:
    if parts.netloc.count("@") > 1:
        raise ValueError("`@` in its user or password has to be written %40")
