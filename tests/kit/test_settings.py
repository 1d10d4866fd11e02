import pytest

from services.kit.settings import HttpUrl, Mailbox, PostgresUrl, Secret, ServiceSettings, SettingsError, load


class OwnSettings(ServiceSettings, frozen=True, kw_only=True):
    secret_key: Secret
    database_url: PostgresUrl | None = None
    internal_url: HttpUrl | None = None
    mail_from: Mailbox | None = None


GIVEN = {"REDIS_URL": "redis://127.0.0.1:6379/0", "SECRET_KEY": "t" * 32}


def test_a_setting_without_a_value_has_its_default() -> None:
    settings = load(OwnSettings, GIVEN)
    assert (settings.port, settings.host, settings.cors_origins) == (8000, "127.0.0.1", "")


def test_numbers_are_converted_from_text() -> None:
    assert load(OwnSettings, {**GIVEN, "PORT": "8080", "DRAIN_DELAY_SECONDS": "2.5"}).drain_delay_seconds == 2.5


def test_other_variables_are_ignored() -> None:
    assert load(OwnSettings, {**GIVEN, "PATH": "/bin"}).port == 8000


def test_an_empty_value_counts_as_missing() -> None:
    assert load(OwnSettings, {**GIVEN, "PORT": ""}).port == 8000


@pytest.mark.parametrize("name", ["REDIS_URL", "SECRET_KEY"])
def test_the_error_of_a_missing_setting_names_it_and_what_is_expected(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is missing: expected a .{{10,}}"):
        load(OwnSettings, {other: value for other, value in GIVEN.items() if other != name})


@pytest.mark.parametrize(
    "origins",
    [
        "https://app.example.com",
        "http://localhost:3000",
        "http://127.0.0.1:5173,https://app.example.com:8443",
        "http://[::1]:3000",
        "https://xn--mnchen-3ya.example",
        "http://intranet:443,https://app.example.com:80",
        "https://app.example.com:4430",
    ],
)
def test_an_origin_is_what_a_browser_sends(origins: str) -> None:
    assert load(OwnSettings, {**GIVEN, "CORS_ORIGINS": origins}).cors_origins == origins


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        "null",
        "https://*.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com?a=b",
        "https://app.example.com#a",
        "https://user@app.example.com",
        "https://App.example.com",
        "HTTPS://app.example.com",
        "https://app.example.com:443",
        "http://app.example.com:80",
        "https://app.example.com:",
        "https://app.example.com:https",
        "https://münchen.example",
        "app.example.com",
        "//app.example.com",
        "ftp://app.example.com",
        "file:///srv",
        "https://",
        "https://app.example.com,",
        ",https://app.example.com",
        "https://app.example.com, https://b.example.com",
        "https://app.example.com https://b.example.com",
        "https://app.example.com\n",
        "http://localhost:3000,http://b.example.com:80",
    ],
)
def test_what_no_browser_sends_as_origin_ends_the_start(origins: str) -> None:
    with pytest.raises(SettingsError, match=r"^CORS_ORIGINS is malformed: expected origins as browsers send them"):
        load(OwnSettings, {**GIVEN, "CORS_ORIGINS": origins})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "web"),
        ("PORT", "70000"),
        ("REDIS_URL", "http://secret-host"),
        ("SECRET_KEY", "too-short"),
        ("LOG_LEVEL", "LOUD"),
        ("CORS_ORIGINS", "*"),
        ("SHUTDOWN_SECONDS", "0"),
    ],
)
def test_the_error_of_a_malformed_setting_names_it_and_hides_its_value(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is malformed: expected ") as raised:
        load(OwnSettings, {**GIVEN, name: value})
    assert f" {value}" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "redis://redis.test"),
        ("REDIS_URL", "rediss://user:p%40s%2Fs@[::1]:6379/15?health_check_interval=10"),
        ("DATABASE_URL", "postgres://u:p%40ss@a.test,b.test:6432/name?target_session_attrs=primary&sslmode=require"),
        ("INTERNAL_URL", "https://auth.test:9000/path"),
        ("INTERNAL_URL", "http://[::1]:9000"),
        ("MAIL_FROM", "Dr. Müller, Praxis <praxis@example.com>"),
        ("MAIL_FROM", '"Dr. Müller, \\"Praxis\\"" <praxis@example.com>'),
        ("MAIL_FROM", "Clinic: North <clinic@example.com>"),
    ],
)
def test_a_url_and_a_mailbox_are_taken_as_they_are(name: str, value: str) -> None:
    assert getattr(load(OwnSettings, {**GIVEN, name: value}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("REDIS_URL", "redis://", ""),
        ("REDIS_URL", "redis:///0", "it names no host"),
        ("REDIS_URL", "redis://user:sec ret@host", ""),
        ("REDIS_URL", "redis://host\n", ""),
        ("REDIS_URL", "redis://user:sec@ret@host", "have to be percent-encoded"),
        ("REDIS_URL", "redis://user:sec#ret@host", "have to be percent-encoded"),
        ("REDIS_URL", "redis://user:sec/ret@host", "have to be percent-encoded"),
        ("REDIS_URL", "redis://host:70000", "a port is a number to 65535"),
        ("REDIS_URL", "redis://host:0", "a port is a number to 65535"),
        ("REDIS_URL", "redis://[::1", "its host is malformed"),
        ("REDIS_URL", "redis://host/name", "its path is not the number of a database"),
        ("REDIS_URL", "redis://host/0?unknown=1", "redis-py does not know one of its parameters"),
        ("REDIS_URL", "redis://host/0?health_check_interval=soon", "redis-py does not know one of its parameters"),
        ("INTERNAL_URL", "http://:9000", "it names no host"),
        ("INTERNAL_URL", "http://host:port", "a port is a number to 65535"),
        ("INTERNAL_URL", "http://host/?a=b", "it has a query or a fragment"),
        ("DATABASE_URL", "postgresql://user:secret@host/name?statement_timeout=5", "its parameter `statement_timeout`"),
        ("MAIL_FROM", '"Clinic <clinic@example.com>', ""),
        ("MAIL_FROM", 'Clinic "North" <clinic@example.com>', ""),
        ("MAIL_FROM", "clinic@example.com\n", ""),
    ],
)
def test_a_malformed_url_or_mailbox_ends_the_start_by_name(name: str, value: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is malformed: expected .*{reason}") as raised:
        load(OwnSettings, {**GIVEN, name: value})
    assert "sec" not in str(raised.value)


@pytest.mark.parametrize("name", ["PORT", "REDIS_URL"])
def test_a_value_that_is_no_text_ends_the_start_by_name(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is malformed: it is not UTF-8"):
        load(OwnSettings, {**GIVEN, name: "redis://\udcff"})
