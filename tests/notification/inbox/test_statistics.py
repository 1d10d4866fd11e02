"""The statistics of all notifications."""

from datetime import UTC, datetime, timedelta

import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import Role
from services.notification.delivery.repository import DeliveryRepository
from services.notification.directory.repository import UserRepository
from services.notification.inbox.repository import InboxRepository
from services.notification.notifying.schemas import Channel, NotificationStatus, NotificationType
from tests.notification.documents import add, notification
from tests.notification.services import migrated, service_of, store_of
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of


async def test_statistics_count_everything(auth: AuthStub, mongodb_url: str, redis_url: str) -> None:
    url = mongodb_url.replace("/notification_", f"/statistics_{uuid7().hex[-6:]}_")
    store = store_of(await migrated(url))
    inbox = InboxRepository(store, UserRepository(store))
    async with client_of(service_of(auth, url, redis_url)) as client:
        headers = auth.bearer(auth.register(Role.ADMIN))
        empty = await client.get("/api/notifications/stats", headers=headers)
        assert empty.json() == {
            "total": 0,
            "unread": 0,
            "byType": dict.fromkeys(NotificationType, 0),
            "byChannel": {"IN_APP": 0, "EMAIL": 0},
            "byStatus": dict.fromkeys(NotificationStatus, 0),
            "oldestUndeliveredAt": None,
        }
        long_ago = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        read, waiting = notification(uuid7()), {"status": NotificationStatus.PENDING, "sent_at": None}
        await add(
            store,
            read,
            notification(uuid7(), type=NotificationType.APPOINTMENT_CANCELLED),
            notification(uuid7(), status=NotificationStatus.FAILED, created_at=long_ago - timedelta(days=1)),
            notification(uuid7(), **waiting),
            notification(uuid7(), **waiting, created_at=long_ago),
        )
        await inbox.mark_read(read.recipient_id, None)
        answer = await client.get("/api/notifications/stats", headers=headers)
        assert answer.json() == {
            "total": 5,
            "unread": 4,
            "byType": dict.fromkeys(NotificationType, 0) | {"APPOINTMENT_CREATED": 4, "APPOINTMENT_CANCELLED": 1},
            "byChannel": {"IN_APP": 5, "EMAIL": 0},
            "byStatus": {"PENDING": 2, "SENT": 2, "FAILED": 1, "SKIPPED": 0},
            "oldestUndeliveredAt": "2026-01-02T03:04:05Z",
        }
    store.close()


async def test_what_is_visible_later_is_neither_unread_nor_undelivered_in_the_statistics(
    auth: AuthStub, mongodb_url: str
) -> None:
    store = store_of(await migrated(mongodb_url.replace("/notification_", f"/statistics_{uuid7().hex[-6:]}_")))
    later, due = datetime.now(UTC) + timedelta(hours=1), datetime(2026, 1, 2, tzinfo=UTC)
    waiting = {"status": NotificationStatus.PENDING, "sent_at": None, "attempts": 0}
    email = {**waiting, "channel": Channel.EMAIL}
    await add(store, notification(uuid7(), **email, created_at=due - timedelta(days=9)), visibleFrom=later)
    await add(store, notification(uuid7(), created_at=due), visibleFrom=later)
    inbox, deliveries = InboxRepository(store, UserRepository(store)), DeliveryRepository(store)
    found = await inbox.statistics()
    assert (found.total, found.unread, found.oldest_undelivered_at) == (2, 0, None)
    assert await deliveries.count_due(Channel.EMAIL) == (0, 0.0)
    await add(store, notification(uuid7(), **email, created_at=due - timedelta(days=9)), visibleFrom=due)
    assert (await inbox.statistics()).oldest_undelivered_at == due
    seconds = (datetime.now(UTC) - due).total_seconds()
    assert (await deliveries.count_due(Channel.EMAIL))[1] == pytest.approx(seconds, abs=60)
    store.close()
