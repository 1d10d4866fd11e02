"""The URLs of PostgreSQL, as libpq reads them."""

import re

import pytest

from services.kit.postgres_url import parse

_URL = "postgresql://user:password@db.example.com/name"


@pytest.mark.parametrize(
    ("url", "hosts", "ports"),
    [
        ("postgres://db.example.com", ("db.example.com",), (5432,)),
        ("postgresql://a:1,b:2/name", ("a", "b"), (1, 2)),
        ("postgresql://user:p@a,b:6432/name", ("a", "b"), (5432, 6432)),
        ("postgresql://[::1]:6432,[2001:db8::1]/name", ("::1", "2001:db8::1"), (6432, 5432)),
        ("postgresql:///name?host=a,b&port=1,2", ("a", "b"), (1, 2)),
        ("postgresql:///name?host=a,b&port=6432", ("a", "b"), (6432, 6432)),
        ("postgresql:///name?host=/run/postgresql", ("/run/postgresql",), (5432,)),
        ("postgresql://%2Frun%2Fpostgresql/name", ("/run/postgresql",), (5432,)),
        ("postgresql:///name", (), ()),
    ],
)
def test_a_url_names_any_number_of_servers(url: str, hosts: tuple[str, ...], ports: tuple[int, ...]) -> None:
    found = parse(url)
    assert (found.hosts, found.ports) == (hosts, ports)


@pytest.mark.parametrize(
    ("url", "user", "password", "database"),
    [
        ("postgres://us%40er:p%40s%3As%2Fw%23o%25rd+%20@h/na%20me", "us@er", "p@s:s/w#o%rd+ ", "na me"),
        ("postgresql://h/?user=u&password=a+b%26&dbname=d", "u", "a+b&", "d"),
        ("postgresql://user@h", "user", None, None),
        ("postgresql://h?user=&database=d", None, None, "d"),
    ],
)
def test_user_password_and_database_may_have_any_characters(
    url: str, user: str | None, password: str | None, database: str | None
) -> None:
    found = parse(url)
    assert (found.user, found.password, found.database) == (user, password, database)


def test_what_the_server_reads_goes_to_the_server() -> None:
    for options in ("-c%20search_path%3Dx", "-c+search_path%3Dx"):
        found = parse(f"{_URL}?options={options}&fallback_application_name=some")
        assert found.arguments(0)["server_settings"] == {"options": "-c search_path=x", "application_name": "some"}
    assert parse(f"{_URL}?fallback_application_name=some&application_name=own").server_settings == {
        "application_name": "own"
    }


def test_what_asyncpg_reads_goes_to_asyncpg() -> None:
    arguments = parse(f"{_URL}?sslmode=verify-ca&sslrootcert=/a%20b.pem&target_session_attrs=primary").arguments(0)
    assert arguments["dsn"] == "postgresql://?sslmode=verify-ca&sslrootcert=%2Fa+b.pem&target_session_attrs=primary"
    assert arguments["ssl"] is None


@pytest.mark.parametrize("mode", ["", "&sslmode=verify-full"])
def test_the_authorities_of_the_system_verify_the_server(mode: str) -> None:
    arguments = parse(f"{_URL}?sslrootcert=system{mode}").arguments(0)
    assert (arguments["dsn"], arguments["ssl"]) == ("postgresql://?", True)


@pytest.mark.parametrize(("value", "seconds"), [("10", 10.0), ("0", None), ("-1", None), ("", None)])
def test_the_time_to_open_a_connection(value: str, seconds: float | None) -> None:
    assert parse(f"{_URL}?connect_timeout={value}").open_seconds == seconds


@pytest.mark.parametrize(
    "parameter",
    [
        "channel_binding=require",
        "gssencmode=disable",
        "gssdelegation=0",
        "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3",
        "tcp_user_timeout=10000",
        "client_encoding=UTF8",
        "load_balance_hosts=random",
        "sslcompression=0",
        "sslsni=1",
        "pgbouncer=true",
        "connect_timeout=10",
    ],
)
def test_what_asyncpg_does_not_know_and_is_not_needed_is_left_out(parameter: str) -> None:
    assert parse(f"{_URL}?{parameter}").arguments(0) == parse(_URL).arguments(0)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (
            "secret@host?statement_timeout=5",
            "`statement_timeout` is not supported; a setting of the server goes into `opt",
        ),
        ("secret@host?connection_limit=5", "`connection_limit` is not supported"),
        ("secret@host?sslmode=yes", "`sslmode` can be allow, disable, prefer, require, verify-ca, verify-full"),
        ("secret@host?gssencmode=require", "`gssencmode` can be disable, prefer"),
        ("secret@host?target_session_attrs=leader", "`target_session_attrs` can be any, "),
        ("secret@host?connect_timeout=soon", "`connect_timeout` is a number of seconds"),
        ("secret@host?sslnegotiation=direct", "`sslnegotiation` can be direct only with sslmode=require"),
        ("secret@host?sslrootcert=system&sslmode=require", "`sslrootcert` can be system only with sslmode=verify-full"),
        ("secret@host?sslmode", "its parameters are not pairs"),
        ("secret@host:port", "a port is a number to 65535"),
        ("secret@host:0", "a port is a number to 65535"),
        ("secret@host:65536", "a port is a number to 65535"),
        ("secret@host:٣", "a port is a number to 65535"),
        ("secret@a,b?port=1,2,3", "another number of ports than there are hosts"),
        ("secret@a,,b", "its host is malformed"),
        ("secret@[::1", "its host is malformed"),
        ("secret@a]", "its host is malformed"),
        ("secret@h?host=[::1", "its host is malformed"),
        ("secret@h?host=[::1]x", "its host is malformed"),
        ("secret@h?host=a%20b", "its host is malformed"),
        ("sec@ret@host", "have to be percent-encoded"),
        ("sec#ret@host", "have to be percent-encoded"),
        ("sec/ret@host", "percent-encoded"),
    ],
)
def test_a_malformed_url_is_refused_without_being_repeated(rest: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        parse(f"postgresql://user:{rest}")
    assert "secret" not in str(refused.value)


def test_the_hosts_may_begin_with_any() -> None:
    arguments = parse("postgresql://a,b:2,c/name").arguments(1)
    assert (arguments["host"], arguments["port"]) == (["b", "c", "a"], [2, 5432, 5432])
