"""The service under test, its settings and its store."""

import asyncio

from services.kit.http.service import Service
from services.kit.settings import load
from services.notification.app import create
from services.notification.indexes import INDEXES, migrate
from services.notification.repository import Store
from services.notification.settings import Settings
from tests.support.auth_stub import INTERNAL_TOKEN, AuthStub
from tests.support.running import metrics_of
from tests.support.waiting import eventually


def service_of(auth: AuthStub, mongodb_url: str, redis_url: str, **more: str) -> Service:
    return create(load(Settings, environment_of(auth, mongodb_url, redis_url) | more))


def environment_of(auth: AuthStub, mongodb_url: str, redis_url: str) -> dict[str, str]:
    return {
        "MONGODB_URL": mongodb_url,
        "REDIS_URL": redis_url,
        "NOTIFICATION_SECRET_KEY": "notification-secret-key-of-the-tests",
        "NOTIFICATION_TO_AUTH_TOKEN": INTERNAL_TOKEN,
        "AUTH_INTERNAL_URL": auth.url,
        "MAILS_PER_PAIR_AND_HOUR": "0",
        "MAILS_PER_RECIPIENT_AND_HOUR": "0",
        "JWKS_URL": f"{auth.url}/api/auth/.well-known/jwks.json",
    }


def store_of(mongodb_url: str) -> Store:
    return Store(mongodb_url, INDEXES)


async def migrated(mongodb_url: str) -> str:
    """Make the indexes of another database than the worker's."""
    await asyncio.to_thread(migrate, mongodb_url)
    return mongodb_url


async def has_metric(service: Service, name: str, value: float) -> None:
    """Soon: what is done is counted after it."""

    async def holds() -> bool:
        return (await metrics_of(service)).get(name, 0) == value

    await eventually(holds)
