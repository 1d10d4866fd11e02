"""`python -m tests.faults.patched PATCH MODULE [ARGUMENT…]`: a service's process with one thing wrong in it.

The services have no switch for any of this.
"""

import json
import runpy
import sys
import time as clock
from datetime import datetime, timedelta, tzinfo
from importlib import import_module
from typing import Any

from redis.asyncio import Redis

from services.contracts.streams import APPOINTMENTS
from services.kit.failpoints import failpoint
from services.kit.postgres import relay
from services.kit.streams import consumer
from services.kit.streams.consumer import Consumer
from services.kit.streams.events import decode_entry


def unlocked() -> None:
    """Bookings take no lock."""
    from services.booking.appointments import service
    from services.booking.time import locks

    vars(service)["time_locks"] = vars(locks)["time_locks"] = lambda **_: []


def bare_insert() -> None:
    """Bookings take no lock and find no obstacle: the constraint decides, and a loser has waited for the winner."""
    from services.booking.appointments import repository, service
    from services.booking.time.obstacles import Obstacles, find_obstacles

    unlocked()
    repository.ADD.sql = repository.ADD.sql.replace("ON CONFLICT DO NOTHING", "")
    peek = repository.peek

    def blind(obstacles: Obstacles) -> Obstacles:
        return obstacles._replace(patient_busy=False, doctor_busy=False)

    async def blind_peek(*arguments: Any) -> tuple[Obstacles, bool]:
        obstacles, answered = await peek(*arguments)
        return blind(obstacles), answered

    async def blind_find(*arguments: Any) -> Obstacles:
        return blind(await find_obstacles(*arguments))

    vars(repository)["peek"], vars(service)["find_obstacles"] = blind_peek, blind_find


def ack_first() -> None:
    """An event is acknowledged before its effect is durable."""
    process = Consumer._process

    async def acknowledged(self: Any, entry_id: str, fields: dict[bytes, bytes]) -> None:
        await self._redis.xack(self._stream, self._group, entry_id)
        await process(self, entry_id, fields)

    Consumer._process = acknowledged  # type: ignore[method-assign]


def not_unique() -> None:
    """Nothing in MongoDB keeps an event from being told twice."""
    from services.notification.app import INDEXES

    INDEXES["notifications"][:] = [
        one for one in INDEXES["notifications"] if one.document["name"] != "notification_once"
    ]


def no_rebuild() -> None:
    """What Redis lost stays lost."""
    relay._LOST = relay._LOST.replace("WHERE", "WHERE false AND")


def watermark() -> None:
    """The relay asks for what is above the highest number that it has seen, and never sees what commits late."""
    above = "WHERE stream_seq IS NULL AND seq > (SELECT coalesce(max(seq), 0) FROM outbox WHERE stream_seq IS NOT NULL)"
    relay._NUMBER = relay._NUMBER.replace("WHERE stream_seq IS NULL", above)


def pubsub() -> None:
    """Events of appointments are published to whoever listens just now, and kept nowhere."""
    send, run = relay.Relay._send, Consumer.run

    async def publish(self: Any) -> int | None:
        if self._stream != APPOINTMENTS.name:
            return await send(self)
        connection = self._connection
        async with connection.transaction():
            if not await connection.fetchval(relay._LOCK, self._stream):
                return None
            await self._open(keys=[self._stream], args=self._groups)
            _, numbered = await connection.fetchrow(relay._POSITION, self._stream)
            rows = await connection.fetch(relay._NUMBER, numbered, 500)
            for row in rows:
                _, *flat = self._entry(row)
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                await self._redis.publish(self._stream, json.dumps(fields))
        return len(rows)

    async def listen(self: Any, stop: Any) -> None:
        if self._stream != APPOINTMENTS.name:
            return await run(self, stop)
        async with Redis.from_url(self._redis_url) as redis, redis.pubsub() as channel:
            await channel.subscribe(self._stream)
            while not stop.is_set():
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=0.2)
                if message:
                    failpoint("received")
                    await self._handle(decode_entry("0-0", json.loads(message["data"]), self._decode))
        return None

    relay.Relay._send = publish  # type: ignore[method-assign]
    consumer.Consumer.run = listen  # type: ignore[method-assign]


def skewed_clock(seconds: float) -> None:
    """Every look at the clock by our own code and by the token library is wrong by so much.

    What they make of a time, and the ids of rows and documents, which a library makes by the true clock, stay as they
    are; so do the databases' clocks.
    """
    import jwt.api_jwt

    for service in ("auth", "booking", "notification"):
        import_module(f"services.{service}.cli")
    true_time = clock.time

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=seconds)

    def skewed_time() -> float:
        return true_time() + seconds

    for name, module in list(sys.modules.items()):
        if name.startswith("services.") or module is jwt.api_jwt:
            if getattr(module, "datetime", None) is datetime:
                module.datetime = Skewed  # type: ignore[attr-defined]
            if getattr(module, "time", None) is true_time:
                module.time = skewed_time  # type: ignore[attr-defined]


_PATCHES = (unlocked, bare_insert, ack_first, not_unique, no_rebuild, watermark, pubsub)


if __name__ == "__main__":
    patch, module, *arguments = sys.argv[1:]
    if patch.startswith("clock"):
        skewed_clock(float(patch.removeprefix("clock")))
    else:
        {one.__name__: one for one in _PATCHES}[patch]()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
