"""A TCP proxy that can fail on demand in the ways a network does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """`url` is the target's, by way of the proxy."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = parts.hostname or "", parts.port or 0
        self._parts = parts
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._refusing = False
        self._replies = asyncio.Event()
        self._replies.set()
        self._silenced: list[asyncio.Event] = []
        self.url = url

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Self]:
        proxy = cls(url)
        server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        credentials, at, _ = proxy._parts.netloc.rpartition("@")
        proxy.url = proxy._parts._replace(netloc=f"{credentials}{at}127.0.0.1:{port}").geturl()
        try:
            yield proxy
        finally:
            proxy.cut()
            server.close()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Close every connection, and each new one at once."""
        self._refusing = True
        for replies in (self._replies, *self._silenced):
            replies.set()
        for writer in self._writers:
            writer.close()

    def heal(self) -> None:
        self._refusing = False
        self._replies.set()

    def hold_replies(self) -> None:
        """Requests arrive and are carried out; their answers do not come back until `heal`, or never after `cut`."""
        self._replies.clear()

    def silence(self) -> None:
        """The connections there are stay open but never answer again; new ones do."""
        self._replies.clear()
        self._silenced.append(self._replies)
        self._replies = asyncio.Event()
        self._replies.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.close()
            return
        there, back = await asyncio.open_connection(*self._target)
        self._writers |= {writer, back}
        for pipe in (self._pipe(reader, back), self._pipe(there, writer, self._replies)):
            task = asyncio.create_task(pipe)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowed: asyncio.Event | None = None
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if allowed is not None:
                    await allowed.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
        self._writers.discard(writer)
