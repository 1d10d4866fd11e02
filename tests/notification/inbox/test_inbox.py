"""The API of the inbox: who may see and do what, complete pages, right counts."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import Role, UserStatus
from services.contracts.events import SessionRevoked, UserState
from services.notification.delivery.repository import DeliveryRepository
from services.notification.directory.ended_sessions import EndedSessionRepository
from services.notification.directory.repository import UserRepository
from services.notification.inbox.repository import InboxRepository
from services.notification.inbox.schemas import Notification, NotificationFilter
from services.notification.notifying.schemas import Channel, NotificationStatus, NotificationType
from services.notification.repository import Store
from tests.notification.conftest import service_of, store_of
from tests.notification.documents import add, notification
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of


@pytest.fixture(scope="module")
async def client(auth: AuthStub, mongodb_url: str, redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service_of(auth, mongodb_url, redis_url)) as client:
        yield client


@pytest.fixture
def inbox(store: Store) -> InboxRepository:
    return InboxRepository(store, UserRepository(store))


async def pages(
    client: httpx.AsyncClient, path: str, headers: dict[str, str], limit: int, between: Any = None
) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = await client.get(f"{path}?limit={limit}{cursor}", headers=headers)
        assert answer.status_code == 200
        page = answer.json()
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["nextCursor"] is None:
            return items
        cursor = f"&cursor={page['nextCursor']}"
        if between is not None:
            await between()


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


READ_ALL = {"all": True}


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


async def test_reading_by_ids_changes_those_alone_and_only_once(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, inbox: InboxRepository
) -> None:
    user, other = auth.register(Role.PATIENT), auth.register(Role.PATIENT)
    mine, rest, theirs = notification(user), notification(user), notification(other)
    await add(store, mine, rest, theirs)

    async def read(*wanted: UUID) -> int:
        body = {"ids": [str(one) for one in wanted]}
        answer = await client.post(f"/api/notifications/{user.id}/read", json=body, headers=auth.bearer(user))
        assert answer.status_code == 200
        return int(answer.json()["changed"])

    assert await read() == 0
    assert await read(mine.id, theirs.id, uuid7()) == 1
    answer = await client.get(f"/api/notifications/{user.id}", headers=auth.bearer(user))
    read_at = {item["id"]: item["readAt"] for item in answer.json()["items"]}
    assert read_at[str(mine.id)] is not None
    assert read_at[str(rest.id)] is None
    assert await read(mine.id) == 0
    again = await client.get(f"/api/notifications/{user.id}?unread=false", headers=auth.bearer(user))
    assert again.json()["items"][0]["readAt"] == read_at[str(mine.id)]
    assert [one.read_at for one in await notifications_of(inbox, other)] == [None]


async def notifications_of(inbox: InboxRepository, user: UserState) -> Sequence[Notification]:
    return await inbox.list(user.id, NotificationFilter(), before=None, limit=100)


async def test_reading_all_changes_everything_of_that_user(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, inbox: InboxRepository
) -> None:
    user, other = auth.register(Role.PATIENT), auth.register(Role.PATIENT)
    await add(store, *(notification(user) for _ in range(3)), notification(other))
    path = f"/api/notifications/{user.id}/read"
    for changed in (3, 0):
        answer = await client.post(path, json=READ_ALL, headers=auth.bearer(user))
        assert answer.json() == {"changed": changed}
    assert [one.read_at for one in await notifications_of(inbox, other)] == [None]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"all": False},
        {"all": None},
        {"all": "true"},
        {"ids": None},
        {"ids": [], "all": True},
        {"ids": [str(UUID(int=1))], "all": False},
        {"ids": ["1"]},
        {"ids": [{"$gt": ""}]},
        {"ids": {"$gt": ""}},
        {"ids": [str(UUID(int=number)) for number in range(101)]},
        {"all": True, "userId": str(UUID(int=1))},
        [],
    ],
)
async def test_a_body_that_does_not_say_which_is_refused(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, inbox: InboxRepository, body: Any
) -> None:
    user = auth.register(Role.PATIENT)
    await add(store, notification(user))
    answer = await client.post(f"/api/notifications/{user.id}/read", json=body, headers=auth.bearer(user))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert [one.read_at for one in await notifications_of(inbox, user)] == [None]


async def test_a_suspended_account_reads_but_marks_nothing(
    client: httpx.AsyncClient, auth: AuthStub, store: Store
) -> None:
    active = auth.register(Role.DOCTOR)
    fields = {name: getattr(active, name) for name in active.__struct_fields__}
    suspended = UserState(**fields | {"status": UserStatus.SUSPENDED, "version": 2})
    await UserRepository(store).put(suspended)
    await add(store, notification(active))
    answer = await client.post(f"/api/notifications/{active.id}/read", json=READ_ALL, headers=auth.bearer(active))
    assert (answer.status_code, answer.json()["code"]) == (403, "account_suspended")
    assert (await client.get(f"/api/notifications/{active.id}", headers=auth.bearer(active))).status_code == 200


async def test_a_token_of_a_former_role_marks_nothing(client: httpx.AsyncClient, auth: AuthStub, store: Store) -> None:
    doctor = auth.register(Role.DOCTOR)
    fields = {name: getattr(doctor, name) for name in doctor.__struct_fields__}
    await UserRepository(store).put(UserState(**fields | {"role": Role.PATIENT, "version": 2}))
    await add(store, notification(doctor))
    answer = await client.post(f"/api/notifications/{doctor.id}/read", json=READ_ALL, headers=auth.bearer(doctor))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_an_ended_session_reads_but_marks_nothing(
    client: httpx.AsyncClient, auth: AuthStub, store: Store
) -> None:
    user, session = auth.register(Role.PATIENT), uuid7()
    headers = {"Authorization": f"Bearer {auth.issuer.token(user.id, user.role, sid=str(session))}"}
    await add(store, notification(user))
    ended = SessionRevoked(session_id=session, user_id=user.id, expires_at=datetime.now(UTC) + timedelta(seconds=1200))
    for _ in range(2):
        await EndedSessionRepository(store).add(ended)
    path = f"/api/notifications/{user.id}"
    answer = await client.post(f"{path}/read", json=READ_ALL, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "session_revoked")
    assert (await client.get(path, headers=headers)).status_code == 200
    assert (await client.post(f"{path}/read", json=READ_ALL, headers=auth.bearer(user))).json() == {"changed": 1}


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


async def test_statistics_count_everything(auth: AuthStub, mongodb_url: str, redis_url: str) -> None:
    url = mongodb_url.replace("/notification_", f"/statistics_{uuid7().hex[-6:]}_")
    store = store_of(url)
    await store.create_indexes()
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
    store = store_of(mongodb_url.replace("/notification_", f"/statistics_{uuid7().hex[-6:]}_"))
    await store.create_indexes()
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
