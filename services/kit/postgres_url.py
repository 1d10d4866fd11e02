"""The URL of a PostgreSQL database, as libpq reads it and hosting services print it."""

import re
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, unquote_plus, urlencode, urlsplit

_PORT = 5432
_HOST = re.compile(r"(?:\[([^\[\]\s]+)\]|([^:\[\]\s]+))(?::(.*))?")  # an IPv6 address has brackets
_TLS_VERSIONS = {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}
_VERIFIED = "verify-full"
_TLS_ALWAYS = {"require", "verify-ca", _VERIFIED}
# asyncpg reads these. A set has the values that are possible, None means any.
_READ: dict[str, set[str] | None] = {
    "sslmode": {"disable", "allow", "prefer", *_TLS_ALWAYS},
    "target_session_attrs": {"any", "primary", "standby", "prefer-standby", "read-write", "read-only"},
    "sslnegotiation": {"postgres", "direct"},
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "gsslib": {"gssapi", "sspi"},
    **dict.fromkeys(("sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword"), None),
    **dict.fromkeys(("krbsrvname", "passfile", "service"), None),
}
# These name the server, the database and the role, like the parts of the URL before the `?`.
_PARTS = {"host", "port", "user", "password", "dbname", "database"}
# These go to the server, and `connect_timeout` to `open_seconds`.
_HONOURED = {"application_name", "fallback_application_name", "options", "connect_timeout"}
_IGNORED: dict[str, set[str] | None] = {
    # asyncpg cannot bind channels: sslmode=verify-full is what proves the server's identity.
    "channel_binding": {"disable", "prefer", "require"},
    # It cannot encrypt by GSSAPI either, and the two that do not insist on it are met by TLS.
    "gssencmode": {"disable", "prefer"},
    "gssdelegation": {"0"},
    # Every statement has a limit of about a second, so that a dead connection is found long before by that.
    **dict.fromkeys(("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"), None),
    "tcp_user_timeout": None,
    # What is not the default of these would change nothing that a service could see.
    "client_encoding": {"auto", "utf8", "UTF8", "utf-8", "UTF-8"},
    "load_balance_hosts": {"disable", "random"},
    "sslcompression": {"0"},
    "sslsni": {"0", "1"},
    # A pooler is found out.
    "pgbouncer": {"true", "false"},
}
_VALUES = _READ | _IGNORED


class PostgresUrl(NamedTuple):
    hosts: tuple[str, ...]
    ports: tuple[int, ...]
    user: str | None
    password: str | None
    database: str | None
    parameters: dict[str, str]
    """What asyncpg reads."""
    server_settings: dict[str, str]
    open_seconds: float | None
    """The longest that opening a connection may take, where its caller sets no limit."""

    def arguments(self, first: int) -> dict[str, Any]:
        """Return asyncpg's arguments to try the hosts from the one at `first` on."""
        parameters = dict(self.parameters)
        verified_by_system = parameters.get("sslrootcert") == "system"
        if verified_by_system:
            del parameters["sslrootcert"]
            parameters.pop("sslmode", None)
        return {
            "dsn": f"postgresql://?{urlencode(parameters)}",
            "host": [*self.hosts[first:], *self.hosts[:first]] or None,
            "port": [*self.ports[first:], *self.ports[:first]] or None,
            "user": self.user,
            "password": self.password,
            "database": self.database,
            "ssl": verified_by_system or None,
            "server_settings": self.server_settings or None,
        }


def parse(url: str) -> PostgresUrl:
    """Read a URL; raise `ValueError` with what is wrong, but without any of its values."""
    parts = _split(url)
    named = _named(parts.query)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    addresses = _addresses(named.get("host") or unquote(hosts), named.get("port", ""))
    server: dict[str, str] = {name: named[name] for name in ("application_name", "options") if name in named}
    if "fallback_application_name" in named:
        server.setdefault("application_name", named["fallback_application_name"])
    return PostgresUrl(
        hosts=tuple(host for host, _ in addresses),
        ports=tuple(port for _, port in addresses),
        user=named.get("user") or unquote(user) or None,
        password=named.get("password") or unquote(password) or None,
        database=named.get("dbname") or named.get("database") or unquote(parts.path.removeprefix("/")) or None,
        parameters={name: value for name, value in named.items() if name in _READ},
        server_settings=server,
        open_seconds=_seconds(named.get("connect_timeout", "0")),
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets of which one is missing
        raise ValueError("its host is malformed") from None
    if parts.fragment or parts.netloc.count("@") > 1:
        raise ValueError(
            "`@`, `:`, `/`, `?`, `#` and `%` in a user or password have to be percent-encoded, as %40 is `@`"
        )
    return parts


def _named(query: str) -> dict[str, str]:
    """Return the parameters, of which an empty one counts as missing.

    `+` is a space, as programs that build URLs write it, but not in a password, which people copy for libpq.
    """
    named: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError("its parameters are not pairs such as sslmode=require, separated by `&`")
        if value:
            named[unquote(name)] = (unquote if name == "password" else unquote_plus)(value)
    for name, value in named.items():
        if name in _VALUES:
            possible = _VALUES[name]
            if possible is not None and value not in possible:
                raise ValueError(f"its parameter `{name}` can be {', '.join(sorted(possible))}")
        elif name not in _PARTS | _HONOURED:
            raise ValueError(
                f"its parameter `{name}` is not supported; a setting of the server goes into `options`, "
                "as in options=-c%20name%3Dvalue"
            )
    if named.get("sslrootcert") == "system" and named.get("sslmode", _VERIFIED) != _VERIFIED:
        raise ValueError("its parameter `sslrootcert` can be system only with sslmode=verify-full")
    if named.get("sslnegotiation") == "direct" and named.get("sslmode") not in _TLS_ALWAYS:
        raise ValueError("its parameter `sslnegotiation` can be direct only with sslmode=require or a stricter one")
    return named


def _addresses(hosts: str, ports: str) -> list[tuple[str, int]]:
    """Return each host with its port. `ports` are those of the parameter, one for all or one for each."""
    if not hosts:
        return []
    found = hosts.split(",")
    given = ports.split(",")
    if len(given) not in (1, len(found)):
        raise ValueError("its parameter `port` has another number of ports than there are hosts")
    return [
        _address(host, port) for host, port in zip(found, given * len(found) if len(given) == 1 else given, strict=True)
    ]


def _address(text: str, port: str) -> tuple[str, int]:
    if text.startswith("/"):  # the folder of a Unix socket
        return text, _number(port)
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError("its host is malformed")
    return found[1] or found[2], _number(found[3] or port)


def _number(port: str) -> int:
    if not port:
        return _PORT
    if not (port.isascii() and port.isdecimal() and 0 < int(port) <= 65535):
        raise ValueError(
            "a port is a number to 65535, and `@` and `:` in a user or password have to be percent-encoded"
        )
    return int(port)


def _seconds(text: str) -> float | None:
    try:
        seconds = int(text)
    except ValueError:
        raise ValueError("its parameter `connect_timeout` is a number of seconds") from None
    return float(seconds) if seconds > 0 else None
