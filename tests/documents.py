"""The three OpenAPI documents as the services publish them, without running anything: `python -m tests.documents`
writes them to docs/openapi, and docs/errors.md beside them.
"""

import json
import secrets
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from services.auth.app import create as create_auth
from services.auth.sessions.keys import rotate
from services.auth.settings import Settings as AuthSettings
from services.booking.app import create as create_booking
from services.booking.settings import Settings as BookingSettings
from services.kit.app import Service
from services.kit.openapi import completed
from services.kit.settings import load
from services.notification.app import create as create_notification
from services.notification.settings import Settings as NotificationSettings

NAMES = ("auth", "booking", "notification")
Json = dict[str, Any]

_DOCS = Path(__file__).parents[1] / "docs"
SNAPSHOTS = _DOCS / "openapi"


@cache
def services() -> dict[str, Service]:
    """The services with settings of which nothing is ever connected to."""
    keys = Path(tempfile.mkdtemp(prefix="booking-platform-documents-")) / "signing-keys.json"
    rotate(keys)
    environment = {
        "AUTH_DATABASE_URL": "postgresql://nowhere.test/auth",
        "AUTH_INTERNAL_URL": "http://nowhere.test",
        "AUTH_SECRET_KEY": secrets.token_hex(),
        "AUTH_SIGNING_KEYS_FILE": str(keys),
        "BOOKING_DATABASE_URL": "postgresql://nowhere.test/booking",
        "BOOKING_INTERNAL_URL": "http://nowhere.test",
        "INTERNAL_TOKEN": secrets.token_hex(),
        "JWKS_URL": "http://nowhere.test",
        "MONGODB_URL": "mongodb://nowhere.test",
        "REDIS_URL": "redis://nowhere.test",
    }
    return {
        "auth": create_auth(load(AuthSettings, environment)),
        "booking": create_booking(load(BookingSettings, environment)),
        "notification": create_notification(load(NotificationSettings, environment)),
    }


@cache
def document(name: str) -> Json:
    published: Json = json.loads(json.dumps(completed(services()[name].litestar.openapi_schema.to_schema())))
    return published


def operations(document: Json) -> dict[str, Json]:
    """By method and path, such as `GET /api/auth`."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
