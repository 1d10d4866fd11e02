"""A consumer reads a stream as a member of a group, and acknowledges an entry only after its effect is durable.

Entries are delivered more than once and in any order: handlers make an effect unique by the event's id, or guard it by
the aggregate's version.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from math import inf
from time import monotonic
from typing import Any, Generic, TypeVar

import msgspec
import structlog
from redis.exceptions import RedisError

from services.kit import tracing
from services.kit.failpoints import failpoint
from services.kit.log import request_id, traceparent
from services.kit.streams.events import DeadLetter, Envelope, EventMetrics, Reason, decode_entry, storable
from services.kit.streams.redis import redis_client
from services.kit.streams.scripts import TIDY_UP
from services.kit.streams.signatures import unchecked
from services.kit.tasks import backoff, pause

E = TypeVar("E")
log = structlog.get_logger("consumer")

_IN_FLIGHT = 64
_FAILURES = 8
_CONNECTIONS = 8
_BLOCK_SECONDS = 1.0
_GRACE_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 5.0
_RECONNECT_SECONDS = 1.0
_HOUR_MS = 3_600_000
_REDIS_OUTAGES = (RedisError, OSError)


class Consumer(Generic[E]):
    """Handle each entry in a task of its own, so that a failing one delays no other.

    `handle` and `dead_letter` return when their effect is durable. An error that `is_outage` recognizes is retried for
    as long as it lasts; any other makes the entry a dead letter when it occurs for the eighth time. An entry that does
    not decode, or that `check` refuses, becomes a dead letter at once.
    """

    def __init__(
        self,
        *,
        redis_url: str,
        stream: str,
        group: str,
        decode: Callable[[str], E],
        handle: Callable[[Envelope[E]], Awaitable[None]],
        dead_letter: Callable[[DeadLetter], Awaitable[None]],
        is_outage: Callable[[Exception], bool],
        metrics: EventMetrics,
        check: Callable[[Mapping[str, str]], Awaitable[None]] = unchecked,
        min_idle_seconds: float = 10.0,
        upkeep_seconds: float = 5.0,
    ) -> None:
        self._redis_url, self._stream, self._group = redis_url, stream, group
        self._decode, self._handle, self._dead_letter = decode, handle, dead_letter
        self._is_outage, self._metrics, self._check = is_outage, metrics, check
        self._min_idle_ms, self._upkeep_seconds = int(min_idle_seconds * 1000), upkeep_seconds
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._log = log.bind(stream=stream, group=group)
        self._in_flight: dict[asyncio.Task[None], str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; then finish what is in flight, or leave it to the other members."""
        self._stop = stop
        self._upkeep_at = -inf
        self._redis = redis_client(
            self._redis_url, connect_seconds=2, answer_seconds=_BLOCK_SECONDS + 3, connections=_CONNECTIONS
        )
        failures = 0
        try:
            while not stop.is_set():
                try:
                    await self._turn()
                except _REDIS_OUTAGES as error:
                    failures += 1
                    if failures == 1:
                        self._log.warning("events cannot be read for now", error=type(error).__name__)
                    self._upkeep_at = -inf
                    await pause(stop, backoff(failures, _FIRST_RETRY_SECONDS, _RECONNECT_SECONDS))
                else:
                    if failures:
                        self._log.info("events are read again")
                    failures = 0
        finally:
            await self._finish()
            await self._redis.aclose()

    async def _turn(self) -> None:
        if monotonic() >= self._upkeep_at:
            self._upkeep_at = monotonic() + self._upkeep_seconds
            await self._claim()
            await self._tidy_up()
        if (free := _IN_FLIGHT - len(self._in_flight)) <= 0:
            await asyncio.wait(self._in_flight, timeout=_BLOCK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            return
        replies: Any = await self._redis.xreadgroup(
            self._group, self._name, {self._stream: ">"}, count=free, block=int(_BLOCK_SECONDS * 1000)
        )
        for _, entries in replies:
            for entry_id, fields in entries:
                self._start(entry_id.decode(), fields)

    async def _claim(self) -> None:
        """Take over entries that were delivered to a member that is gone, or to this one in a reply that got lost."""
        cursor = b"0-0"
        while (free := _IN_FLIGHT - len(self._in_flight)) > 0:
            reply: Any = await self._redis.xautoclaim(
                self._stream, self._group, self._name, self._min_idle_ms, cursor, count=free
            )
            cursor, entries = reply[0], reply[1]
            for entry_id, fields in entries:
                if entry_id.decode() not in self._in_flight.values():
                    self._start(entry_id.decode(), fields)
            if cursor == b"0-0":
                return
        self._upkeep_at = monotonic() + _BLOCK_SECONDS  # there may be more

    async def _tidy_up(self) -> None:
        found: Any = await self._redis.eval(TIDY_UP, 1, self._stream, self._group, str(_HOUR_MS))
        if found is not None:
            self._metrics.pending.labels(self._stream).set(found[0])
            self._metrics.lag.labels(self._stream).set(found[1])

    def _start(self, entry_id: str, fields: dict[bytes, bytes]) -> None:
        task = asyncio.create_task(self._process(entry_id, fields))
        self._in_flight[task] = entry_id
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        entry_id = self._in_flight.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("event is left pending", entry_id=entry_id, exc_info=error)

    async def _process(self, entry_id: str, fields: dict[bytes, bytes]) -> None:
        try:
            if (letter := await self._try_to_handle(entry_id, fields)) is not None:
                await self._retry("dead letter", entry_id, lambda: self._dead_letter(letter), inf)
                self._metrics.dead_letters.labels(self._stream).inc()
                self._log.error("event is a dead letter now", entry_id=entry_id, reason=letter.reason)
        except _Stopped:
            return
        failpoint("handled")
        try:
            await self._redis.xack(self._stream, self._group, entry_id)
        except _REDIS_OUTAGES as error:
            self._log.warning("handled event will be delivered again", entry_id=entry_id, error=type(error).__name__)

    async def _try_to_handle(self, entry_id: str, fields: dict[bytes, bytes]) -> DeadLetter | None:
        # A dead letter keeps these texts, so a replay handles nothing that was not checked here.
        texts = {storable(name): storable(value) for name, value in fields.items()}
        failure = await self._retry("unknown", entry_id, lambda: self._check(texts), 1)
        if failure is not None:
            return self._letter(entry_id, "forged", failure, texts)
        try:
            envelope = decode_entry(entry_id, texts, self._decode)
        except Exception as error:
            self._count("unknown", "undecodable")
            return self._letter(entry_id, "undecodable", error, texts)
        request_id.set(envelope.request_id)
        kind = type(envelope.event).__name__
        failpoint("received")
        with tracing.message("process", "redis", self._stream, envelope.id, envelope.traceparent) as span:
            envelope = msgspec.structs.replace(envelope, traceparent=traceparent.get())
            failure = await self._retry(kind, entry_id, lambda: self._handle(envelope), _FAILURES)
            if failure is not None:
                if span is not None:
                    span.fail(failure)
                return self._letter(entry_id, "failing", failure, texts)
        self._count(kind, "handled")
        return None

    def _letter(self, entry_id: str, reason: Reason, failure: Exception, fields: dict[str, str]) -> DeadLetter:
        return DeadLetter(
            stream=self._stream,
            group=self._group,
            entry_id=entry_id,
            reason=reason,
            error=storable(f"{type(failure).__name__}: {failure}".encode("utf-8", "backslashreplace")[:1000]),
            fields=fields,
        )

    async def _retry(
        self, kind: str, entry_id: str, work: Callable[[], Awaitable[None]], failures_allowed: float
    ) -> Exception | None:
        """Do `work` until it succeeds, or return its last error when it has failed as often as allowed.

        Outages do not count as failures.
        """
        failures = 0
        for attempt in count(1):
            try:
                await work()
            except Exception as error:
                outage = self._is_outage(error)
                failures += not outage
                self._count(kind, "outage" if outage else "failed")
                if failures >= failures_allowed:
                    return error
                if attempt == 1:
                    name = type(error).__name__
                    self._log.warning("event is tried again", entry_id=entry_id, type=kind, error=name, outage=outage)
            else:
                return None
            await pause(self._stop, backoff(attempt, _FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS))
            if self._stop.is_set():
                raise _Stopped
            with suppress(*_REDIS_OUTAGES):
                # Renew the claim while retrying; otherwise XAUTOCLAIM would hand the entry to another member.
                await self._redis.xclaim(self._stream, self._group, self._name, 0, [entry_id], justid=True)
        raise AssertionError("unreachable")

    def _count(self, kind: str, outcome: str) -> None:
        self._metrics.attempts.labels(self._stream, kind, outcome).inc()

    async def _finish(self) -> None:
        """Wait a little for what is in flight, cancel the rest and let the other members claim it at once."""
        try:
            if self._in_flight:
                await asyncio.wait(self._in_flight, timeout=_GRACE_SECONDS)
        finally:
            left = list(self._in_flight)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        with suppress(*_REDIS_OUTAGES):
            pending: Any = await self._redis.xpending_range(
                self._stream, self._group, "-", "+", 2 * _IN_FLIGHT, consumername=self._name
            )
            if ids := [entry["message_id"] for entry in pending]:
                await self._redis.xclaim(self._stream, self._group, self._name, 0, ids, idle=_HOUR_MS, justid=True)


class _Stopped(Exception):
    """The consumer stops before the entry is done, so the entry stays pending."""
