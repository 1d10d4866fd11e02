import asyncio
import random
from contextlib import suppress
from uuid import UUID

from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from services.kit.auth import Principal
from services.notification.live.service import LiveService

_LAST_WORD_SECONDS = 0.5


class EventStream(ASGIResponse):
    """Server-sent events.

    Litestar's own response is a generator. When the client disconnects, the garbage collector closes it at some later
    time, or it has never started. This response releases what the stream holds when the request ends.
    """

    _should_set_content_length = False

    def __init__(self, live: LiveService, caller: Principal, user_id: UUID, last_seen: UUID | None) -> None:
        # A proxy that buffers, compresses or caches the response would hold events back.
        headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
        super().__init__(headers=headers, media_type="text/event-stream")
        self._live, self._caller, self._user_id, self._last_seen = live, caller, user_id, last_seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write(block: bytes) -> None:
            await send({"type": "http.response.body", "body": block, "more_body": True})

        async with self._live.open(self._caller, self._user_id, self._last_seen) as stream:
            await self.start_response(send)
            writing = asyncio.create_task(stream.write(write))
            leaving = asyncio.create_task(_disconnected(receive))
            draining = asyncio.create_task(self._live.draining.wait())
            tasks = {writing, leaving, draining}
            try:
                done, _ = await asyncio.wait(tasks, timeout=stream.seconds_left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            if writing in done:
                stream.ended_by = await writing
            elif leaving not in done:
                stream.ended_by = "draining" if draining in done else "expired"
        # Spread the reconnects of a stopping process' clients over some seconds.
        last = b"retry: %d\n\n" % random.randint(1000, 5000) if stream.ended_by == "draining" else b""  # noqa: S311
        # A client that has stopped reading would block a proper end, so the connection is cut.
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await send({"type": "http.response.body", "body": last, "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
