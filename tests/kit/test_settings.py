import pytest

from services.kit.settings import Secret, ServiceSettings, SettingsError, load


class OwnSettings(ServiceSettings, frozen=True, kw_only=True):
    secret_key: Secret


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
