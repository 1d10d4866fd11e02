"""A TCP proxy that fails on demand as networks do, and that adds TLS to a server without it."""

import asyncio
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 65536
# The least time before TCP retransmits a lost segment (Linux: TCP_RTO_MIN).
_RETRANSMISSION_SECONDS = 0.2
_RESET = struct.pack("ii", 1, 0)
# A client of PostgreSQL asks for TLS with this message, before any other.
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class Proxy:
    """`url` is the target's URL with the address of the proxy.

    `delay_seconds` applies to each direction, `loss` is the chance that a chunk must be retransmitted, and no chunk is
    larger than `chunk_bytes`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = parts.hostname or "", parts.port or 0
        self._parts = parts
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._refusing = False
        self.delay_seconds = self.loss = 0.0
        self.chunk_bytes = _CHUNK
        self._requests, self._replies = asyncio.Event(), asyncio.Event()
        self._requests.set()
        self._replies.set()
        self._silenced: list[asyncio.Event] = []
        self._tls_on_request: ssl.SSLContext | None = None
        self.url = url

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Run a proxy to `url`. With `tls` it serves only clients that use TLS."""
        proxy = cls(url)
        if tls is not None and proxy._parts.scheme == "postgresql":
            proxy._tls_on_request = tls
            server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        else:
            server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0, ssl=tls)
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
        self._let_go()
        for writer in self._writers:
            writer.close()

    def reset(self) -> None:
        """Reset every connection, as a router that lost its state does; new connections are served."""
        for writer in self._writers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def heal(self) -> None:
        self._refusing = False
        self.delay_seconds = self.loss = 0.0
        self.chunk_bytes = _CHUNK
        self._requests.set()
        self._replies.set()

    def hold_requests(self) -> None:
        """Let no request reach the target until `heal`."""
        self._requests.clear()

    def hold_replies(self) -> None:
        """Deliver requests, but hold their replies until `heal`, or drop them at `cut`."""
        self._replies.clear()

    def silence(self) -> None:
        """Keep the current connections open but never reply on them again; new connections work."""
        self._replies.clear()
        self._silenced.append(self._replies)
        self._replies = asyncio.Event()
        self._replies.set()

    def _let_go(self) -> None:
        for held in (self._requests, self._replies, *self._silenced):
            held.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.close()
            return
        if self._tls_on_request is not None:
            with suppress(OSError, asyncio.IncompleteReadError):
                if await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST:
                    writer.write(b"S")
                    await writer.start_tls(self._tls_on_request)
            if writer.get_extra_info("ssl_object") is None:
                writer.close()
                return
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, back}
        for pipe in (self._pipe(reader, back, self._requests), self._pipe(there, writer, self._replies)):
            task = asyncio.create_task(pipe)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowed: asyncio.Event) -> None:
        """Forward chunks, and read on while earlier ones are delayed: a delay costs no bandwidth."""
        now = asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

        async def deliver() -> None:
            while (chunk := await under_way.get())[1]:
                if (early := chunk[0] - now()) > 0:
                    await asyncio.sleep(early)
                await allowed.wait()
                with suppress(OSError, RuntimeError):  # uvloop raises RuntimeError when the peer is gone
                    writer.write(chunk[1])
                    await writer.drain()

        delivering = asyncio.create_task(deliver())
        arrives = 0.0
        data = b"-"
        while data:
            try:
                data = await reader.read(self.chunk_bytes)
            except OSError:
                data = b""
            late = _RETRANSMISSION_SECONDS if random.random() < self.loss else 0.0
            arrives = max(arrives, now() + self.delay_seconds + late)
            await under_way.put((arrives, data))
        await delivering
        writer.close()
        self._writers.discard(writer)
