"""`python -m tests.bench.client`: sends the requests of a plan (stdin) to loopback and reports (stdout).

A process of its own, with raw keep-alive connections and requests that are bytes already: it shares its cores with what
it measures, so it must cost little.
"""

import asyncio
import itertools
import re
import sys
from collections.abc import Iterator
from time import perf_counter, time
from typing import Any

import msgspec
import uvloop

_WARM_UP_SECONDS = 0.3
_ANSWER_SECONDS = 10.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Plan(msgspec.Struct, kw_only=True):
    """With `per_second`, each request once, when it is due; without, as many as it can for `seconds`."""

    port: int
    requests: list[bytes]
    repeatable: bool = False
    connections: int = 32
    seconds: float = 0
    per_second: float | None = None


class Exchange(msgspec.Struct):
    """`due_at` and `answered_at` are by the machine's clock, for another process to compare with."""

    due_at: float
    answered_at: float
    body: bytes


class Report(msgspec.Struct, kw_only=True):
    """`sent` are all the answered requests, those of the warm-up too; `exchanges` are there at a rate only."""

    sent: int
    per_second: float
    exchanges: list[Exchange] = []


class Refused(Exception):
    """An answer other than 2xx, or none: what was measured means nothing."""


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: Any) -> None:  # uvloop's are no subclasses of asyncio's
        self._transport = transport

    def exchange(self, request: bytes) -> "asyncio.Future[bytes]":
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or self._answer is None:
            return
        length = _LENGTH.search(head)
        if length and len(body) < int(length[1]):
            return
        self._received = b""
        if length and head.startswith(b"HTTP/1.1 2"):
            self._answer.set_result(body)
        else:
            self._answer.set_exception(Refused((head.splitlines()[0] + b" " + body[:500]).decode()))
        self._answer = None

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None:
            self._answer.set_exception(Refused("the connection was closed before the answer"))


async def carry_out(plan: Plan) -> Report:
    loop = asyncio.get_running_loop()
    opened = [await loop.create_connection(_Connection, "127.0.0.1", plan.port) for _ in range(plan.connections)]
    connections = [connection for _, connection in opened]
    if plan.per_second:
        return await _at_rate(plan, plan.per_second, connections)
    requests = itertools.cycle(plan.requests) if plan.repeatable else iter(plan.requests)
    warmed_up, _ = await _flat_out(requests, connections, _WARM_UP_SECONDS)
    count, elapsed = await _flat_out(requests, connections, plan.seconds)
    return Report(sent=warmed_up + count, per_second=count / elapsed)


async def _flat_out(requests: Iterator[bytes], connections: list[_Connection], seconds: float) -> tuple[int, float]:
    started = perf_counter()

    async def keep_asking(connection: _Connection) -> int:
        count = 0
        while perf_counter() - started < seconds and (request := next(requests, None)):
            await connection.exchange(request)
            count += 1
        return count

    async with asyncio.timeout(seconds + _ANSWER_SECONDS):
        counts = await asyncio.gather(*map(keep_asking, connections))
    return sum(counts), perf_counter() - started


async def _at_rate(plan: Plan, per_second: float, connections: list[_Connection]) -> Report:
    """Open loop: a request that has to wait for a free connection is late by what it waited, as its user would be."""
    idle: asyncio.Queue[_Connection] = asyncio.Queue()
    for connection in connections:
        idle.put_nowait(connection)

    async def ask(request: bytes, due_at: float) -> Exchange:
        await asyncio.sleep(due_at - time())
        connection = await idle.get()
        body = await connection.exchange(request)
        idle.put_nowait(connection)
        return Exchange(due_at, time(), body)

    first = time() + 0.1
    async with asyncio.timeout(len(plan.requests) / per_second + _ANSWER_SECONDS):
        exchanges = await asyncio.gather(*(ask(r, first + i / per_second) for i, r in enumerate(plan.requests)))
    return Report(sent=len(exchanges), per_second=per_second, exchanges=exchanges)


if __name__ == "__main__":
    try:
        report = uvloop.run(carry_out(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Plan)))
    except (Refused, OSError, TimeoutError) as refusal:
        sys.exit(f"{type(refusal).__name__}: {refusal}")
    sys.stdout.buffer.write(msgspec.msgpack.encode(report))
