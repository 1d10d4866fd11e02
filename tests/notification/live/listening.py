"""The far end of a stream: a client over a real socket, and the service behind one."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import time
from typing import Any
from uuid import UUID

import httpx
from uuid_utils.compat import uuid7

from services.contracts.events import UserState
from services.kit.command.server import Listener, _server
from services.kit.http.service import Service
from services.notification.inbox.schemas import Notification
from services.notification.repository import Store
from tests.notification.documents import add, notification
from tests.support.running import metrics_of
from tests.support.waiting import HANG_SECONDS, eventually, without_hang

_SHUTDOWN_SECONDS = 5


@asynccontextmanager
async def url_of(service: Service) -> AsyncIterator[str]:
    """The address of the service, in this process and by the server that it is deployed with."""
    listener = Listener("127.0.0.1", 0)
    server = _server(service.app, _SHUTDOWN_SECONDS, "on")
    serving = asyncio.create_task(server.serve([listener.socket]))
    url = f"http://127.0.0.1:{listener.port}"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:

            async def ready() -> bool:
                return (await client.get("/api/health")).status_code == 200

            await eventually(ready)
        yield url
    finally:
        service.health.drain()
        server.should_exit = True
        await serving


class Heard:
    """Blocks of a stream as they came: their fields, a comment under the name "". `ended` when nothing more comes."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.blocks: list[dict[str, str]] = []
        self.ended = asyncio.Event()

    @property
    def ids(self) -> list[str]:
        return [block["id"] for block in self.blocks if "data" in block]

    @property
    def data(self) -> list[Any]:
        return [json.loads(block["data"]) for block in self.blocks if "data" in block]

    async def has(self, *ids: object) -> None:
        async def holds() -> bool:
            return {str(one) for one in ids} <= set(self.ids)

        await eventually(holds)

    async def count(self, number: int) -> None:
        async def holds() -> bool:
            return len(self.ids) >= number

        await eventually(holds)

    async def ends(self) -> None:
        async with without_hang():
            await self.ended.wait()

    async def read(self) -> None:
        block: dict[str, str] = {}
        try:
            async for line in self.response.aiter_lines():
                if line:
                    name, _, value = line.partition(":")
                    block[name] = value.removeprefix(" ")
                elif block:
                    self.blocks.append(block)
                    block = {}
        finally:
            self.ended.set()


@asynccontextmanager
async def listening(url: str, user_id: object, headers: dict[str, str], **query: str) -> AsyncIterator[Heard]:
    path = f"{url}/api/notifications/{user_id}/stream"
    async with (
        httpx.AsyncClient(timeout=HANG_SECONDS, trust_env=False) as client,
        client.stream("GET", path, headers=headers, params=query) as response,
    ):
        assert response.status_code == 200, await response.aread()
        heard = Heard(response)
        reading = asyncio.create_task(heard.read())
        try:
            yield heard
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, httpx.HTTPError):
                await reading


async def subscribed(service: Service, times: float = 1) -> None:
    """Wait until the service has connected so many times to the channel of announcements."""

    async def holds() -> bool:
        return (await metrics_of(service))["notification_live_connects_total"] >= times

    await eventually(holds)


def made_ago(seconds: float) -> UUID:
    """An id of that time."""
    bits = uuid7().int & ((1 << 80) - 1)
    return UUID(int=(int((time() - seconds) * 1000) << 80) | bits)


async def stored(store: Store, recipient: UserState, **changes: Any) -> Notification:
    """In MongoDB, and nobody hears of it."""
    one = notification(recipient, **changes)
    await add(store, one)
    return one
