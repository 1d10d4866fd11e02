"""The load balancer between clients and replicas: requests go in turn to the replicas that report ready.

An ingress does the same by the same `GET /api/health`, but polls less often. The balancer never repeats a request:
that is the client's decision.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from time import time
from typing import Any

import httptools
import msgspec

from tests.support.process import ServiceProcess

_POLL_SECONDS = 0.2
_ANSWER_SECONDS = 5.0


class Answer(msgspec.Struct, frozen=True):
    """An answer of a replica. `status` is 0 when there was none; `error` then says why."""

    replica: str
    sent_at: float
    at: float
    status: int
    headers: dict[str, str]
    body: bytes
    error: str | None = None

    @property
    def seconds(self) -> float:
        return self.at - self.sent_at

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class _ConnectionLost(Exception):
    """The connection ended before the answer was complete."""


class _Connection(asyncio.Protocol):
    """A keep-alive connection for one request at a time.

    With httpx, a hundred requests at once would wait longer for the client's own work than for the answers.
    """

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[int, dict[str, str], bytes]] | None = None
        self.open = True

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(_ConnectionLost("connection lost"))

    def exchange(self, request: bytes) -> "asyncio.Future[tuple[int, dict[str, str], bytes]]":
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = b""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((self._parser.get_status_code(), self._headers, self._body))


class Balancer:
    """Send requests to the replicas of a service. `via` maps a replica's name to another port, such as a proxy's."""

    def __init__(self, replicas: Mapping[str, Sequence[ServiceProcess]]) -> None:
        self._replicas = replicas
        self._idle: dict[int, list[_Connection]] = {}
        self._ready: dict[str, bool] = {}
        self._turns = count()
        self.via: dict[str, int] = {}

    async def watch(self) -> None:
        """Poll the readiness of every replica until cancelled."""
        while True:
            every = [replica for replicas in self._replicas.values() for replica in replicas]
            await asyncio.gather(*map(self._poll, every))
            await asyncio.sleep(_POLL_SECONDS)

    async def _poll(self, replica: ServiceProcess) -> None:
        answer = await self.send_to(replica, "GET", "/api/health", {}, within_seconds=1.0)
        self._ready[replica.name] = answer.status == 200

    def replicas(self, service: str) -> Sequence[ServiceProcess]:
        """Return the replicas that are ready, or all of them when none is, so that the client sees that outage."""
        every = self._replicas[service]
        return [one for one in every if self._ready.get(one.name, True)] or every

    async def send(self, service: str, method: str, path: str, headers: Mapping[str, str], body: Any = None) -> Answer:
        replicas = self.replicas(service)
        return await self.send_to(replicas[next(self._turns) % len(replicas)], method, path, headers, body)

    async def send_to(
        self,
        replica: ServiceProcess,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Any = None,
        *,
        within_seconds: float = _ANSWER_SECONDS,
    ) -> Answer:
        sent_at = time()
        connection: _Connection | None = None
        port = self.via.get(replica.name, replica.port)
        try:
            async with asyncio.timeout(within_seconds):
                connection = await self._connection(port)
                status, received, content = await connection.exchange(_encoded(method, path, headers, body))
        except (OSError, _ConnectionLost, TimeoutError, httptools.HttpParserError) as error:
            if connection is not None:
                connection.transport.abort()
            return Answer(replica.name, sent_at, time(), 0, {}, b"", str(error) or type(error).__name__)
        if connection.open:
            self._idle.setdefault(port, []).append(connection)
        return Answer(replica.name, sent_at, time(), status, received, content)

    async def _connection(self, port: int) -> _Connection:
        idle = self._idle.get(port, [])
        while idle:
            if (connection := idle.pop()).open:
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
        return connection

    async def open_connections(self, replica: ServiceProcess, number: int) -> None:
        """Open `number` connections to the replica and keep them idle."""
        port = self.via.get(replica.name, replica.port)
        opened = await asyncio.gather(*(self._connection(port) for _ in range(number)))
        self._idle.setdefault(port, []).extend(opened)

    def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                with suppress(OSError):
                    connection.transport.abort()


def _encoded(method: str, path: str, headers: Mapping[str, str], body: Any) -> bytes:
    content = b"" if body is None else msgspec.json.encode(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content
