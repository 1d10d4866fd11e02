import pytest

from services.kit.settings import SettingsError, load
from services.notification.settings import DatabaseSettings, MigrationSettings


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://mongo.test",
        "mongodb://user:p%40s%2Fs@a.test:27017,b.test/notification?replicaSet=rs&w=majority&tls=true",
        "mongodb://[::1]:27017/notification",
        "mongodb+srv://user:password@cluster.test/notification?retryWrites=true&srvMaxHosts=2&w=majority",
        "mongodb+srv://cluster.test/?srvServiceName=other",
    ],
)
def test_a_url_of_mongodb_is_taken_as_it_is(url: str) -> None:
    assert load(DatabaseSettings, {"MONGODB_URL": url}).mongodb_url == url


@pytest.mark.parametrize("name", ["MONGODB_URL", "MONGODB_MIGRATION_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "mongodb://",
        "mongodb://user:sec@ret@host",
        "mongodb://user:sec/ret@host",
        "mongodb://user:sec%ret@host",
        "mongodb+srv://user:sec@ret@host/?srvMaxHosts=2",
        "mongodb://host:70000",
        "mongodb://host:port",
        "mongodb://[::1",
        "mongodb://host/a$b",
        "mongodb://host/?tls=maybe",
        "mongodb://host/?tls",
        "mongodb://host/?unknown=1",
        "mongodb://host/?tls=true&tlsCAFile=/missing",
        "mongodb://host ",
        "http://host",
    ],
)
def test_a_malformed_url_of_mongodb_ends_the_start_by_name(name: str, url: str) -> None:
    expected = (
        rf"^{name} is malformed: expected a URL such as mongodb://user:password@host:27017/name(, but its host|$)"
    )
    with pytest.raises(SettingsError, match=expected) as raised:
        load(MigrationSettings, {"MONGODB_URL": "mongodb://mongo.test", name: url})
    assert "sec" not in str(raised.value)
