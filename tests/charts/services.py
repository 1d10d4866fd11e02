"""The three services as objects, created and not started, so that they connect to nothing."""

import tempfile
from functools import cache
from pathlib import Path

from litestar import Litestar

from services.auth import app as auth
from services.auth.sessions import keys
from services.auth.settings import Settings as AuthSettings
from services.booking import app as booking
from services.booking.settings import Settings as BookingSettings
from services.kit.http.service import Service
from services.kit.settings import load
from services.notification import app as notification
from services.notification.settings import Settings as NotificationSettings

_NOWHERE = {
    "AUTH_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/auth",
    "BOOKING_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/booking",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "MONGODB_URL": "mongodb://127.0.0.1:1/notification",
    "AUTH_TO_BOOKING_TOKEN": "x" * 32,
    "BOOKING_TO_AUTH_TOKEN": "x" * 32,
    "NOTIFICATION_TO_AUTH_TOKEN": "x" * 32,
    "AUTH_SECRET_KEY": "x" * 32,
    "NOTIFICATION_SECRET_KEY": "x" * 32,
    "AUTH_INTERNAL_URL": "http://127.0.0.1:1",
    "BOOKING_INTERNAL_URL": "http://127.0.0.1:1",
    "JWKS_URL": "http://127.0.0.1:1",
}


@cache
def service(name: str) -> Service:
    if name == "booking":
        return booking.create(load(BookingSettings, _NOWHERE))
    if name == "notification":
        return notification.create(load(NotificationSettings, _NOWHERE))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "keys.json")
        keys.rotate(path)
        return auth.create(load(AuthSettings, {**_NOWHERE, "AUTH_SIGNING_KEYS_FILE": str(path)}))


def litestar(name: str) -> Litestar:
    return service(name).litestar
