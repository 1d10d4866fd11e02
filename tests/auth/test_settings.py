import pytest

from services.auth.sessions.keys import LONGEST_VALID_SECONDS
from services.auth.settings import Settings
from services.kit.settings import SettingsError, load

GIVEN = {
    "REDIS_URL": "redis://redis.test",
    "AUTH_DATABASE_URL": "postgresql://postgres.test/auth",
    "AUTH_SIGNING_KEYS_FILE": "keys.json",
    "AUTH_SECRET_KEY": "s" * 32,
    "AUTH_TO_BOOKING_TOKEN": "a" * 32,
    "BOOKING_TO_AUTH_TOKEN": "b" * 32,
    "NOTIFICATION_TO_AUTH_TOKEN": "n" * 32,
    "BOOKING_INTERNAL_URL": "http://booking.test",
}


def test_an_access_token_lives_15_minutes_at_most_and_its_key_is_published_longer() -> None:
    assert load(Settings, GIVEN).access_token_seconds == 900
    longest = load(Settings, {**GIVEN, "ACCESS_TOKEN_SECONDS": "900"}).access_token_seconds
    assert longest < LONGEST_VALID_SECONDS
    for refused in ("901", "90000", "0", "-1"):
        with pytest.raises(SettingsError, match="ACCESS_TOKEN_SECONDS is malformed"):
            load(Settings, {**GIVEN, "ACCESS_TOKEN_SECONDS": refused})
