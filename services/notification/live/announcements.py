"""Announcements by Redis Pub/Sub, to every process, that a notification was stored.

Only ids travel: a process that has a stream open for the recipient reads the notification from MongoDB. A lost message
therefore loses nothing, a forged one shows nothing, and no text passes through Redis.
"""

import asyncio
import random
from collections.abc import Sequence
from time import monotonic
from typing import Any
from uuid import UUID

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter
from redis.asyncio import Redis

from services.kit.streams.redis import redis_client
from services.kit.tasks import pause
from services.notification.live.repository import REDIS_AWAY
from services.notification.live.subscriptions import Subscriptions
from services.notification.notifying.schemas import Channel, NewNotification

log = structlog.get_logger("live")

CHANNEL = "notification:live"
_PUBLISHING = 200
_TURN_SECONDS = 1.0
_PING_SECONDS = 2.0
_SILENCE_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 2.0

_Announced = list[tuple[UUID, UUID]]  # recipient, notification


class Announcer:
    """Publish in the background, so that a Redis that is down or hangs neither fails nor delays the caller."""

    def __init__(self, redis: Redis, registry: CollectorRegistry) -> None:
        self._redis = redis
        self._tasks: set[asyncio.Task[None]] = set()
        self._published = Counter("notification_live_published_total", "Messages to Pub/Sub", registry=registry)
        self._failures = Counter(
            "notification_live_publish_failures_total",
            "Messages that Pub/Sub did not take: streams find what they were about by looking again",
            registry=registry,
        )

    def announce(self, stored: Sequence[NewNotification]) -> None:
        announced: _Announced = [
            (one.recipient_id, one.id) for one in stored if one.channel is Channel.IN_APP and one.recipient_id
        ]
        if not announced:
            return
        if len(self._tasks) >= _PUBLISHING:
            self._failures.inc()
            return
        task = asyncio.create_task(self._publish(msgspec.json.encode(announced)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, message: bytes) -> None:
        try:
            await self._redis.publish(CHANNEL, message)
        except REDIS_AWAY as error:
            self._failures.inc()
            log.warning("notifications were not announced", error=type(error).__name__)
        else:
            self._published.inc()

    async def close(self) -> None:
        """Wait until what is being sent has arrived or failed, for the client's time-out at most."""
        await asyncio.gather(*self._tasks)


class AnnouncementReader:
    """Subscribe once for the process. After each connect, every open stream reads MongoDB again.

    Litestar's channels do not serve: after 20 s without Redis they lose their subscriber for good, silently.
    """

    def __init__(self, redis_url: str, subscriptions: Subscriptions, registry: CollectorRegistry) -> None:
        self._redis_url, self._subscriptions = redis_url, subscriptions
        self._connects = Counter(
            "notification_live_connects_total", "Times that this process subscribed to Pub/Sub", registry=registry
        )

    async def run(self, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                await self._listen(stop)
            except REDIS_AWAY as error:  # TimeoutError among them
                if failures == 0:
                    log.warning("announcements cannot be read for now", error=type(error).__name__)
                failures = 0 if self._heard else failures + 1
                delay = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** min(failures, 10))
                await pause(stop, delay * random.uniform(0.5, 1))  # noqa: S311

    async def _listen(self, stop: asyncio.Event) -> None:
        """Return when stopped; raise when Redis does not answer a ping."""
        self._heard = False
        redis = redis_client(self._redis_url, connect_seconds=2, answer_seconds=2)
        async with redis, redis.pubsub() as pubsub:
            async with asyncio.timeout(_SILENCE_SECONDS):
                await pubsub.subscribe(CHANNEL)
            heard = pinged = monotonic()
            while not stop.is_set():
                async with asyncio.timeout(_SILENCE_SECONDS):
                    if monotonic() - pinged > _PING_SECONDS:
                        pinged = monotonic()
                        await pubsub.ping()
                    message = await pubsub.get_message(timeout=_TURN_SECONDS)
                if message is not None:
                    heard = monotonic()
                    self._take(message)
                elif monotonic() - heard > _SILENCE_SECONDS:
                    raise TimeoutError

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":  # also after the client has reconnected by itself
            self._heard = True
            self._connects.inc()
            log.info("announcements are read")
            self._subscriptions.look_again()
        elif message["type"] == "message":
            try:
                announced = msgspec.json.decode(message["data"], type=_Announced)
            except msgspec.MsgspecError:
                log.warning("announcement cannot be read")
                return
            for recipient_id, notification_id in announced:
                self._subscriptions.announce(recipient_id, notification_id)
