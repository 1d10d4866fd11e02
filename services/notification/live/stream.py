"""One open stream: what it sends, in which order, and when it looks at MongoDB again."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import time
from uuid import UUID

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge
from uuid_utils.compat import uuid7

from services.kit.auth import Principal, SessionEnded
from services.kit.errors import Forbidden, Unavailable
from services.notification.directory.callers import Callers
from services.notification.inbox.repository import InboxRepository
from services.notification.inbox.schemas import Notification
from services.notification.live.subscriptions import Subscription, Subscriptions

Write = Callable[[bytes], Awaitable[None]]

HEARTBEAT_SECONDS = 15.0
# The delay of a notification whose announcement was lost, or whose sender died before announcing it.
LOOK_AGAIN_SECONDS = 30.0
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 8.0
# All buffers are full by then: the client is gone or cannot keep up.
STALLED_SECONDS = 10.0
# Ids follow the clocks of the processes that made them, not the order of insertion into MongoDB.
OVERLAP_MS = 60_000
_PAGE = 100


class LiveMetrics:
    def __init__(self, registry: CollectorRegistry, subscriptions: Subscriptions) -> None:
        opened = Gauge("notification_streams_open", "Streams open in this process", registry=registry)
        opened.set_function(lambda: len(subscriptions))
        self.ended = Counter("notification_streams_ended_total", "Streams by their end", ["reason"], registry=registry)
        self.sent = Counter("notification_streams_sent_total", "Notifications sent to streams", registry=registry)
        self.catch_ups = Counter(
            "notification_streams_catch_ups_total", "Looks at MongoDB for what may be missing", registry=registry
        )
        self.uncounted = Counter(
            "notification_streams_uncounted_total",
            "Streams opened while Redis could not count those of the other processes",
            registry=registry,
        )


class LiveStream:
    """One client's stream. MongoDB is its queue: for a slow client only ids wait in memory, and only up to a bound."""

    def __init__(
        self,
        caller: Principal,
        subscription: Subscription,
        callers: Callers,
        inbox: InboxRepository,
        metrics: LiveMetrics,
    ) -> None:
        self._caller, self._subscription = caller, subscription
        self._callers, self._inbox, self._metrics = callers, inbox, metrics
        self._sent: set[UUID] = set()
        self._floor_ms = 0  # nothing older is queried
        self._retry_at = 0.0
        self._resumed = False
        self._loop = asyncio.get_running_loop()
        self.ended_by = "client"

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._caller.expires_at - time())

    async def begin(self, last_seen: UUID | None) -> None:
        """Start a minute before `last_seen`; without it start now, and treat what is stored as sent."""
        now_ms = _now_ms()
        self._resumed = last_seen is not None
        if last_seen is not None:
            self._floor_ms = min(_ms(last_seen), now_ms) - OVERLAP_MS
            self._subscription.look_again()
            return
        self._floor_ms = now_ms - OVERLAP_MS
        after = _first_of(self._floor_ms)
        while page := await self._inbox.list_arrived(self._caller.id, after=after, limit=_PAGE):
            self._sent.update(one.id for one in page)
            after = page[-1].id
        self._subscription.look_at = min(self._subscription.look_at, self._loop.time() + LOOK_AGAIN_SECONDS)

    async def write(self, write: Write) -> str:
        """Send until the stream has to end, and return the reason."""
        try:
            if not self._resumed:
                # An id without data dispatches no event, but sets the position from which the client can resume.
                await self._put(write, f"id: {uuid7()}\n\n".encode())
            beat_at = self._loop.time() + HEARTBEAT_SECONDS
            failures = 0
            while True:
                self._subscription.changed.clear()
                if self._loop.time() >= beat_at:
                    beat_at = self._loop.time() + HEARTBEAT_SECONDS
                    await self._put(write, b":\n\n")
                if self._loop.time() >= self._work_at():
                    try:
                        await self._work(write)
                        failures = 0
                    except Unavailable:
                        # Spread the streams over time when MongoDB comes back.
                        delay = min(LAST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures, 10))
                        self._retry_at = self._loop.time() + delay * random.uniform(0.5, 1)  # noqa: S311
                        failures += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(min(beat_at, self._work_at())):
                        await self._subscription.changed.wait()
        except _Ended as end:
            return end.reason

    def _work_at(self) -> float:
        due = -1.0 if self._subscription.announced else self._subscription.look_at
        return max(due, self._retry_at)

    async def _work(self, write: Write) -> None:
        if self._subscription.look_at <= self._loop.time():
            await self._look(write)
        announced = set(self._subscription.announced)
        if unsent := announced - self._sent:
            await self._send(write, await self._inbox.find_arrived(self._caller.id, unsent))
        self._subscription.announced -= announced

    async def _look(self, write: Write) -> None:
        """Read what was stored since the last query, with a minute of overlap. `Unavailable` leaves it due."""
        started_ms, next_at = _now_ms(), self._loop.time() + LOOK_AGAIN_SECONDS
        asked_at, self._subscription.look_at = self._subscription.look_at, next_at
        try:
            try:
                await self._callers.check(self._caller)
            except (Forbidden, SessionEnded) as end:
                raise _Ended(end.code) from None
            after = _first_of(self._floor_ms)
            while page := await self._inbox.list_arrived(self._caller.id, after=after, limit=_PAGE):
                await self._send(write, page)
                after = page[-1].id
                self._move_floor(min(_ms(after), started_ms))
        except Unavailable:
            self._subscription.look_at = asked_at
            raise
        self._move_floor(started_ms)
        self._metrics.catch_ups.inc()

    def _move_floor(self, seen_ms: int) -> None:
        self._floor_ms = max(self._floor_ms, seen_ms - OVERLAP_MS)
        self._sent = {one for one in self._sent if _ms(one) >= self._floor_ms}

    async def _send(self, write: Write, notifications: Sequence[Notification]) -> None:
        for one in notifications:
            if one.id not in self._sent:
                data = msgspec.json.encode(one)
                await self._put(write, b"event: notification\nid: %b\ndata: %b\n\n" % (str(one.id).encode(), data))
                self._sent.add(one.id)
                self._metrics.sent.inc()

    async def _put(self, write: Write, block: bytes) -> None:
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await write(block)
        except TimeoutError:
            raise _Ended("slow") from None


class _Ended(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _now_ms() -> int:
    return int(time() * 1000)


def _ms(notification_id: UUID) -> int:
    """Return the time of a UUIDv7 in milliseconds."""
    return notification_id.int >> 80


def _first_of(milliseconds: int) -> UUID:
    """Return the lowest UUIDv7 of that millisecond."""
    return UUID(int=max(0, milliseconds) << 80)
