"""Whom the service has told of what."""

from typing import Any
from uuid import UUID

import httpx

from services.contracts.events import (
    UserState,
)
from services.notification.repository import Store
from tests.support.auth_stub import AuthStub
from tests.support.waiting import eventually


async def told(store: Store, *recipients: UserState) -> list[dict[str, Any]]:
    ids = [recipient.id for recipient in recipients]
    return await store["notifications"].find({"recipientId": {"$in": ids}}).sort("_id").to_list(None)


async def has_been_told(store: Store, count: int, *recipients: UserState) -> None:
    async def holds() -> bool:
        return len(await told(store, *recipients)) >= count

    await eventually(holds)


async def dead_letters(store: Store, *ids: UUID) -> list[dict[str, Any]]:
    return await store["dead_letters"].find({"fields.id": {"$in": [str(one) for one in ids]}}).to_list(None)


async def inbox(client: httpx.AsyncClient, auth: AuthStub, user: UserState) -> list[dict[str, Any]]:
    answer = await client.get(f"/api/notifications/{user.id}", headers=auth.bearer(user))
    assert answer.status_code == 200
    items: list[dict[str, Any]] = answer.json()["items"]
    return items
