"""`python -m tests.bench.client FILE`: send the requests of a plan (stdin) to loopback, and write a report to FILE.

It shares its cores with what it measures, so it must cost little: a process of its own, raw keep-alive connections, and
requests that are bytes already.
"""

import asyncio
import itertools
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter, time
from typing import Any, TypeVar

import msgspec
import uvloop

T = TypeVar("T")

_WARM_UP_SECONDS = 0.3
_ANSWER_SECONDS = 10.0
_MOST_UNAVAILABLE = 0.2
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


ANSWERS = Counter[int]()  # by status, over all plans that did not expect a 503


class Plan(msgspec.Struct, kw_only=True):
    """What to send, and how.

    With `per_second`, each request is sent once, when it is due. With `waves`, every connection sends one request at
    the same time, and the next when all are answered. Otherwise each sends one after the other for `seconds`.

    Connections are spread over `ports`. A status that is not among `expected` ends the plan. Only a 503 does not, and
    is not measured, because the services' time-outs cause it on a machine that other programs use.
    """

    ports: list[int]
    requests: list[bytes]
    repeatable: bool = False
    connections: int = 32
    seconds: float = 0
    per_second: float | None = None
    waves: bool = False
    expected: tuple[int, ...] = (200, 201)


class Exchange(msgspec.Struct):
    """`due_at` and `answered_at` are by the machine's clock, so that another process can compare them with its own."""

    due_at: float
    answered_at: float
    body: bytes


class Report(msgspec.Struct, kw_only=True):
    """`statuses` count all requests, with those of the warm-up. Only a plan with a rate has `exchanges`."""

    per_second: float
    seconds: list[float]
    statuses: dict[int, int]
    exchanges: list[Exchange] = []

    @property
    def sent(self) -> int:
        return sum(self.statuses.values())


class Refused(Exception):
    """An unexpected answer, or none: the measurement is void."""


class Unavailable(Exception):
    """A 503 where none was expected."""


class _Connection(asyncio.Protocol):
    def __init__(self, expected: tuple[int, ...], statuses: Counter[int]) -> None:
        self._expected, self._statuses = expected, statuses
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: Any) -> None:  # uvloop's transports are not subclasses of asyncio's
        self._transport = transport

    def exchange(self, request: bytes) -> "asyncio.Future[bytes]":
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    async def timed(self, request: bytes) -> float:
        started = perf_counter()
        await self.exchange(request)
        return perf_counter() - started

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or self._answer is None:
            return
        length = _LENGTH.search(head)
        if length and len(body) < int(length[1]):
            return
        self._received = b""
        status = int(head[9:12])
        self._statuses[status] += 1
        if length and status in self._expected:
            self._answer.set_result(body)
        elif status == 503:
            self._answer.set_exception(Unavailable)
        else:
            self._answer.set_exception(Refused((head.splitlines()[0] + b" " + body[:500]).decode()))
        self._answer = None

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Refused("the connection was closed before the answer"))


async def carry_out(plan: Plan) -> Report:
    loop = asyncio.get_running_loop()
    statuses = Counter[int]()
    connections = []
    for port in itertools.islice(itertools.cycle(plan.ports), plan.connections):
        made = await loop.create_connection(lambda: _Connection(plan.expected, statuses), "127.0.0.1", port)
        connections.append(made[1])
    if plan.per_second:
        exchanges = await _at_rate(plan.requests, plan.per_second, connections)
        seconds = [exchange.answered_at - exchange.due_at for exchange in exchanges]
        return _report(seconds, len(seconds) / plan.per_second, statuses, exchanges)
    if plan.waves:
        started = perf_counter()
        return _report(await _in_waves(plan.requests, connections), perf_counter() - started, statuses)
    requests = itertools.cycle(plan.requests) if plan.repeatable else iter(plan.requests)
    await _flat_out(requests, connections, _WARM_UP_SECONDS)
    started = perf_counter()
    return _report(await _flat_out(requests, connections, plan.seconds), perf_counter() - started, statuses)


def _report(seconds: list[float], elapsed: float, statuses: Counter[int], exchanges: Sequence[Exchange] = ()) -> Report:
    return Report(
        per_second=len(seconds) / elapsed,
        seconds=seconds,
        statuses=dict(statuses),
        exchanges=list(exchanges),
    )


async def _flat_out(requests: Iterator[bytes], connections: list[_Connection], seconds: float) -> list[float]:
    started = perf_counter()

    async def keep_asking(connection: _Connection) -> list[float]:
        taken = []
        while perf_counter() - started < seconds and (request := next(requests, None)):
            with suppress(Unavailable):
                taken.append(await connection.timed(request))
        return taken

    async with asyncio.timeout(seconds + _ANSWER_SECONDS):
        return [*itertools.chain(*await asyncio.gather(*map(keep_asking, connections)))]


async def _in_waves(requests: list[bytes], connections: list[_Connection]) -> list[float]:
    taken: list[float] = []
    for first in range(0, len(requests), len(connections)):
        wave = zip(connections, requests[first : first + len(connections)], strict=False)
        async with asyncio.timeout(_ANSWER_SECONDS):
            answers = (connection.timed(request) for connection, request in wave)
            found = await asyncio.gather(*answers, return_exceptions=True)
        taken += _answered(found)
    return taken


async def _at_rate(requests: list[bytes], per_second: float, connections: list[_Connection]) -> list[Exchange]:
    """Send in an open loop: the wait for a free connection counts as latency, as it would for a user."""
    idle: asyncio.Queue[_Connection] = asyncio.Queue()
    for connection in connections:
        idle.put_nowait(connection)

    async def ask(request: bytes, due_at: float) -> Exchange:
        await asyncio.sleep(due_at - time())
        connection = await idle.get()
        try:
            return _exchanged(due_at, await connection.exchange(request))
        finally:
            idle.put_nowait(connection)

    first = time() + 0.1
    async with asyncio.timeout(len(requests) / per_second + _ANSWER_SECONDS):
        asked = (ask(request, first + i / per_second) for i, request in enumerate(requests))
        return _answered(await asyncio.gather(*asked, return_exceptions=True))


def _exchanged(due_at: float, body: bytes) -> Exchange:
    return Exchange(due_at, time(), body)


def _answered(found: Sequence[T | BaseException]) -> list[T]:
    """Leave out the 503 answers, and raise any other error."""
    answered = []
    for one in found:
        if not isinstance(one, BaseException):
            answered.append(one)
        elif not isinstance(one, Unavailable):
            raise one
    return answered


async def sent(plan: Plan) -> Report:
    """Carry out a plan in a process of its own; raise `Refused` when that fails."""
    with tempfile.NamedTemporaryFile() as file:
        command = [sys.executable, "-m", "tests.bench.client", file.name]
        run = await asyncio.to_thread(subprocess.run, command, input=msgspec.msgpack.encode(plan), capture_output=True)
        if run.returncode:
            raise Refused(f"the client ended with {run.returncode}: {run.stderr.decode()[-500:]}")
        report = msgspec.msgpack.decode(file.read(), type=Report)
    if 503 not in plan.expected:
        ANSWERS.update(report.statuses)
        if report.statuses.get(503, 0) > report.sent * _MOST_UNAVAILABLE:
            raise Refused(f"too many answers were 503: {report.statuses}")
    return report


if __name__ == "__main__":
    try:
        report = uvloop.run(carry_out(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Plan)))
    except (Refused, OSError, TimeoutError) as refusal:
        sys.exit(f"{type(refusal).__name__}: {refusal}")
    Path(sys.argv[1]).write_bytes(msgspec.msgpack.encode(report))
