"""Marking notifications as read."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import Role, UserStatus
from services.contracts.events import SessionRevoked, UserState
from services.notification.directory.ended_sessions import EndedSessionRepository
from services.notification.directory.repository import UserRepository
from services.notification.inbox.repository import InboxRepository
from services.notification.inbox.schemas import Notification, NotificationFilter
from services.notification.repository import Store
from tests.notification.documents import add, notification
from tests.notification.inbox.reading import READ_ALL
from tests.support.auth_stub import AuthStub


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
