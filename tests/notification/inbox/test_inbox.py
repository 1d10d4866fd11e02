"""Who may read which notifications, in which order and form."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import Role
from services.contracts.events import UserState
from services.notification.inbox.repository import InboxRepository
from services.notification.notifying.schemas import NotificationStatus, NotificationType
from services.notification.repository import Store
from tests.notification.documents import add, notification
from tests.notification.inbox.reading import READ_ALL, ids, pages
from tests.support.auth_stub import AuthStub


@pytest.mark.parametrize(
    ("method", "path", "body", "anonymous", "patient", "stranger", "doctor", "admin"),
    [
        ("GET", "/api/notifications/{userId}", None, 401, 200, 404, 404, 200),
        ("POST", "/api/notifications/{userId}/read", READ_ALL, 401, 200, 404, 404, 403),
        ("GET", "/api/notifications/stats", None, 401, 403, 403, 403, 200),
    ],
)
async def test_who_may_do_what(
    client: httpx.AsyncClient,
    auth: AuthStub,
    method: str,
    path: str,
    body: Any,
    anonymous: int,
    patient: int,
    stranger: int,
    doctor: int,
    admin: int,
) -> None:
    owner = auth.register(Role.PATIENT)
    address = path.format(userId=owner.id)
    callers: list[tuple[UserState | None, int]] = [
        (None, anonymous),
        (owner, patient),
        (auth.register(Role.PATIENT), stranger),
        (auth.register(Role.DOCTOR), doctor),
        (auth.register(Role.ADMIN), admin),
    ]
    for caller, expected in callers:
        headers = auth.bearer(caller) if caller else {}
        answer = await client.request(method, address, json=body, headers=headers)
        assert answer.status_code == expected, (caller, answer.text)
        if expected >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
    expired = {"Authorization": f"Bearer {auth.issuer.token(owner.id, owner.role, exp=1)}"}
    answer = await client.request(method, address, json=body, headers=expired)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")


@pytest.mark.parametrize(
    "path", ["/api/notifications/nobody", "/api/notifications/1/read", "/api/notifications/stats/read"]
)
async def test_a_malformed_id_is_not_found(client: httpx.AsyncClient, auth: AuthStub, path: str) -> None:
    admin = auth.register(Role.ADMIN)
    method = "POST" if path.endswith("/read") else "GET"
    answer = await client.request(method, path, json=READ_ALL if method == "POST" else None, headers=auth.bearer(admin))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_notification_has_the_fields_of_the_contract(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, inbox: InboxRepository
) -> None:
    user = auth.register(Role.PATIENT)
    stored = notification(user)
    await add(store, stored)
    answer = await client.get(f"/api/notifications/{user.id}", headers=auth.bearer(user))
    (item,) = answer.json()["items"]
    created_at = datetime.fromisoformat(item.pop("createdAt"))
    assert abs(created_at - stored.created_at) < timedelta(milliseconds=1)
    assert datetime.fromisoformat(item.pop("sentAt")) == created_at
    assert item == {
        "id": str(stored.id),
        "recipientId": str(user.id),
        "channel": "IN_APP",
        "type": "APPOINTMENT_CREATED",
        "appointmentId": str(stored.appointment_id),
        "patientId": str(stored.patient_id),
        "doctorId": str(stored.doctor_id),
        "message": stored.message,
        "status": "SENT",
        "readAt": None,
        "attempts": 1,
    }
    assert stored.id.version == 7


async def test_the_list_is_newest_first_and_filtered_as_asked(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, inbox: InboxRepository
) -> None:
    user = auth.register(Role.PATIENT)
    first = notification(user)
    second = notification(user, type=NotificationType.APPOINTMENT_CANCELLED)
    third = notification(user, status=NotificationStatus.PENDING, sent_at=None, attempts=0)
    await add(store, second, third, first, notification(uuid7()))
    await inbox.mark_read(user.id, [first.id])
    for query, expected in (
        ("", [third, second, first]),
        ("?limit=2", [third, second]),
        ("?type=APPOINTMENT_CREATED", [third, first]),
        ("?type=APPOINTMENT_CANCELLED&unread=true", [second]),
        ("?type=APPOINTMENT_RESCHEDULED", []),
        ("?unread=true", [third, second]),
        ("?unread=false", [first]),
        ("?status=PENDING", [third]),
        ("?status=SENT&type=APPOINTMENT_CREATED", [first]),
    ):
        answer = await client.get(f"/api/notifications/{user.id}{query}", headers=auth.bearer(user))
        assert ids(answer) == [str(one.id) for one in expected], query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("type=NEWS", "type"),
        ("unread=maybe", "unread"),
        ("unread=null", "unread"),
        ("status=NULL", "status"),
        ("status=sent", "status"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("cursor=@@", "cursor"),
        ("cursor=WzFd", "cursor"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused_by_name(
    client: httpx.AsyncClient, auth: AuthStub, query: str, field: str
) -> None:
    user = auth.register(Role.PATIENT)
    answer = await client.get(f"/api/notifications/{user.id}?{query}", headers=auth.bearer(user))
    assert answer.status_code == 400
    assert [error["path"] for error in answer.json()["errors"]] == [field]


async def test_pages_are_complete_while_more_arrive(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, inbox: InboxRepository
) -> None:
    user = auth.register(Role.DOCTOR)
    there = [notification(user) for _ in range(60)]
    # The order in which documents were stored says nothing.
    await add(store, *there[::2], *reversed(there[1::2]))

    async def arrive() -> None:
        await add(store, notification(user), notification(user))

    items = await pages(client, f"/api/notifications/{user.id}", auth.bearer(user), 7, arrive)
    assert [item["id"] for item in items] == [str(one.id) for one in reversed(there)]


async def test_what_is_visible_later_is_neither_listed_nor_unread_before(
    client: httpx.AsyncClient, auth: AuthStub, store: Store
) -> None:
    user = auth.register(Role.PATIENT)
    now, hidden = notification(user), notification(user)
    await add(store, now, visibleFrom=datetime.now(UTC))
    await add(store, hidden, visibleFrom=datetime.now(UTC) + timedelta(hours=1))
    path, mine = f"/api/notifications/{user.id}", auth.bearer(user)
    for query in ("", "?unread=true"):
        assert ids(await client.get(f"{path}{query}", headers=mine)) == [str(now.id)]
    for body in ({"ids": [str(hidden.id)]}, READ_ALL):
        changed = (await client.post(f"{path}/read", json=body, headers=mine)).json()["changed"]
        assert changed == (1 if body == READ_ALL else 0)
    await store["notifications"].update_one({"_id": hidden.id}, {"$set": {"visibleFrom": datetime.now(UTC)}})
    assert ids(await client.get(f"{path}?unread=true", headers=mine)) == [str(hidden.id)]
