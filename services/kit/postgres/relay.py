"""The relay carries the rows of an outbox into a Redis stream.

Redis is a transport, never a store. Its last id says how far the stream reaches; PostgreSQL knows which event has each
number and how far every reader has acknowledged. From the two the relay finds what to send, for the first time or
again.
"""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from itertools import chain
from operator import itemgetter
from time import monotonic
from typing import Any

import asyncpg
import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from redis.exceptions import RedisError, ResponseError

from services.kit import tracing
from services.kit.failpoints import failpoint
from services.kit.log import traceparent
from services.kit.postgres.connector import Connector
from services.kit.postgres.outbox_rows import OutboxRows
from services.kit.streams import scripts
from services.kit.streams.redis import redis_client
from services.kit.streams.signatures import SIGNATURE, Sign, signature_of
from services.kit.tasks import backoff, pause

log = structlog.get_logger("relay")
_number = itemgetter("stream_seq")

_BATCH = 500
# Readers may be away for days. Beyond this many entries, some 100 MB, what they have not acknowledged waits in the
# outbox, because a Redis whose memory is full also refuses quotas, stream tickets and the other services' events.
_STREAM_ENTRIES = 100_000
_DELETE_AT_ONCE = 1_000
_COMMAND_SECONDS = 5.0
_REDIS_SECONDS = 2.0
_IDLE_SECONDS = 0.15
_CONTENDED_SECONDS = 0.05
# How often an idle relay checks that Redis still has what was sent.
_LOOK_SECONDS = 1.0
# Redis' append-only file keeps the names and addresses of trimmed entries until it is rewritten, and Redis itself does
# that only when the file has grown. A relay does it after an hour, then daily: an erasure reaches the file in a day.
_FIRST_REWRITE_SECONDS = 3_600.0
_REWRITE_SECONDS = 86_400.0
_OUTAGES = (OSError, RedisError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Relay:
    """Carry one service's outbox into its stream. Every replica runs one; at any moment one of them works.

    `groups` are the stream's readers: the relay creates them before its first entry, and deletes an event only when all
    of them have acknowledged it and it is older than `retention`. Events of one aggregate keep their order.
    """

    _rows: OutboxRows

    def __init__(
        self,
        *,
        database_url: str,
        redis_url: str,
        stream: str,
        groups: Sequence[str],
        registry: CollectorRegistry,
        sign: Sign | None = None,
        retention: timedelta = timedelta(days=7),
        upkeep_seconds: float = 5.0,
    ) -> None:
        self._connector = Connector(database_url)
        self._stream, self._groups, self._sign = stream, list(groups), sign
        self._retention, self._upkeep_seconds = retention, upkeep_seconds
        self._redis = redis_client(redis_url, connect_seconds=_REDIS_SECONDS, answer_seconds=_REDIS_SECONDS)
        self._open = self._redis.register_script(scripts.OPEN)
        self._append = self._redis.register_script(scripts.APPEND)
        self._acknowledged = self._redis.register_script(scripts.ACKNOWLEDGED)
        self._connection: Any = None
        self._deletable_through: int | None = None
        self._woken = asyncio.Event()
        self._look_at = self._upkeep_at = float("-inf")
        self._rewrite_at = monotonic() + _FIRST_REWRITE_SECONDS
        self._depth = Gauge("outbox_unpublished_events", "Events not yet in the stream", registry=registry)
        self._age = Gauge("outbox_oldest_age_seconds", "Age of the oldest unpublished event", registry=registry)
        self._held_back = Gauge(
            "outbox_held_back", "1 while the stream is full and events wait for its readers", registry=registry
        )
        self._published = Counter("outbox_published_total", "Events put into the stream", registry=registry)
        self._resent = Counter(
            "outbox_resent_total", "Events sent again because Redis had lost them", registry=registry
        )

    def wake(self) -> None:
        """Look at the outbox at once: this process has committed a transaction that wrote an event."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        failures = 0
        try:
            while not stop.is_set():
                self._woken.clear()
                try:
                    delay = await self._turn()
                except _OUTAGES as error:
                    failures += 1
                    self._look_at = float("-inf")
                    if not isinstance(error, RedisError):
                        self._drop_connection()
                    if failures == 1:
                        log.warning("events cannot be relayed for now", stream=self._stream, error=type(error).__name__)
                    # `wake` does not end this pause early: writers go on while Redis is down.
                    await pause(stop, backoff(failures, 0.1, 1.0))
                else:
                    if failures:
                        log.info("events are relayed again", stream=self._stream)
                    failures = 0
                    await pause(self._woken, delay)
        finally:
            await self._redis.aclose()
            if self._connection is not None:
                with suppress(*_OUTAGES):
                    await self._connection.close(timeout=1)

    async def _turn(self) -> float:
        """Look at the outbox once, send what is due, and return the seconds to rest after it."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connector.connect(timeout=_COMMAND_SECONDS, command_timeout=_COMMAND_SECONDS)
            self._rows = OutboxRows(self._connection)
        if monotonic() >= self._upkeep_at:
            self._upkeep_at = monotonic() + self._upkeep_seconds
            await self._measure()
            await self._advance()
            await self._rewrite_file()
        await self._delete()
        waiting = await self._rows.are_waiting()
        if not waiting and monotonic() < self._look_at:
            return _IDLE_SECONDS
        self._look_at = monotonic() + _LOOK_SECONDS
        sent = await self._send()
        if sent is None and waiting:
            return _CONTENDED_SECONDS
        return 0 if sent else _IDLE_SECONDS

    async def _send(self) -> int | None:
        """Send one batch, and return its size; None when another replica is sending.

        A crash between the append and the commit leaves Redis ahead. The same events are then sent again under new
        numbers, and readers recognize them by their event id.
        """
        try:
            async with self._connection.transaction():
                if not await self._rows.lock(self._stream):
                    return None
                acked_through, numbered = await self._rows.position(self._stream)
                last_id, entries_present = await self._open(keys=[self._stream], args=self._groups)
                # Entries are counted, because numbers may have gaps: an emptied stream that went on elsewhere has room.
                room = max(0, min(_BATCH, _STREAM_ENTRIES - entries_present))
                self._held_back.set(not room)
                present = max(int(last_id.partition(b"-")[0]), acked_through)
                lost = await self._rows.after(present, room) if present < numbered else []
                # Past `acked_through` too: an entry at or below it counts as read, and would not be sent again.
                rows = lost or await self._rows.give_numbers(max(present, numbered), room)
                with ExitStack() as spans:
                    entries = msgspec.msgpack.encode([self._entry(row, spans) for row in sorted(rows, key=_number)])
                    if rows and not await self._append(keys=[self._stream], args=[last_id, entries]):
                        raise _StreamMoved
                failpoint("appended")
        except _StreamMoved:
            return 0
        if lost:
            self._look_at = float("-inf")  # there may be more
            self._resent.inc(len(lost))
            log.info("events that Redis had lost are sent again", stream=self._stream, count=len(lost))
        else:
            self._published.inc(len(rows))
        return len(rows)

    async def _measure(self) -> None:
        depth, age = await self._rows.backlog()
        self._depth.set(depth)
        self._age.set(age)

    async def _advance(self) -> None:
        """Store how far every reader has acknowledged, begin to delete older rows, and trim the stream up to there."""
        async with self._connection.transaction():
            if not await self._rows.lock(self._stream):
                return
            acknowledged = await self._acknowledged(keys=[self._stream], args=self._groups)
            if acknowledged is None:
                return
            acked_through = await self._rows.advance(self._stream, acknowledged)
        self._deletable_through = acked_through
        await self._delete()
        await self._redis.xtrim(self._stream, minid=f"{acked_through + 1}-0", approximate=False)

    async def _delete(self) -> None:
        """Delete a batch in each turn, until nothing is left: events do not wait for the deletion of old ones."""
        if self._deletable_through is not None:
            deleted = await self._rows.delete(self._deletable_through, self._retention, _DELETE_AT_ONCE)
            if deleted < _DELETE_AT_ONCE:
                self._deletable_through = None

    def _entry(self, row: Any, spans: ExitStack) -> list[str]:
        """Return a row's id in the stream and its fields, flat, as XADD takes them. Its span ends with `spans`."""
        spans.enter_context(tracing.message("send", "redis", self._stream, row["id"], row["traceparent"]))
        fields = {
            "id": str(row["id"]),
            "type": row["type"],
            "aggregateid": row["aggregateid"],
            "version": str(row["version"]),
            "payload": row["payload"],
            "created_at": msgspec.to_builtins(row["created_at"]),
        }
        context = {"traceparent": traceparent.get(), "request_id": row["request_id"]}
        fields |= {name: value for name, value in context.items() if value is not None}
        if self._sign is not None:
            fields[SIGNATURE] = signature_of(self._stream, fields, self._sign)
        return [f"{row['stream_seq']}-0", *chain.from_iterable(fields.items())]

    async def _rewrite_file(self) -> None:
        if monotonic() < self._rewrite_at:
            return
        self._rewrite_at = monotonic() + _REWRITE_SECONDS
        with suppress(ResponseError):  # a rewrite is under way, or this Redis has no file that a client may rewrite
            await self._redis.bgrewriteaof()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


class _StreamMoved(Exception):
    """The stream has changed since it was read: nothing was appended, and the numbers given are rolled back."""
