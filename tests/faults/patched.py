"""`python -m tests.faults.patched PATCH MODULE [ARGUMENT…]`: run a service with one safeguard removed.

The services have no switch for any of this. A patch fails when a name or a text that it replaces no longer exists.
"""

import asyncio
import json
import runpy
import sys
import time as clock
from contextlib import ExitStack
from datetime import datetime, timedelta, tzinfo
from typing import Any

import jwt.api_jwt
from pymongo import InsertOne
from redis.asyncio import Redis

import services.auth.cli
import services.booking.cli
import services.notification.cli  # noqa: F401 - `skewed_clock` patches every module that these three import
from services.booking.appointments import repository as bookings
from services.booking.appointments import service as booking_service
from services.booking.time import locks
from services.booking.time.obstacles import Obstacles
from services.booking.time.open_time import OpenTime
from services.contracts.streams import APPOINTMENTS
from services.kit.failpoints import failpoint
from services.kit.postgres import outbox_rows
from services.kit.postgres.relay import Relay
from services.kit.streams.consumer import Consumer
from services.kit.streams.events import decode_entry
from services.notification.indexes import INDEXES
from services.notification.notifying import repository as notifying
from services.notification.notifying.schemas import NewNotification


def _replace(owner: Any, name: str, value: Any) -> Any:
    """Set an attribute that exists, and return what it was."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    return original


def _edit(owner: Any, name: str, old: str, new: str) -> None:
    """Replace a part of a text attribute, such as a statement's SQL."""
    text = getattr(owner, name)
    if old not in text:
        raise LookupError(f"{name} has no {old!r}")
    setattr(owner, name, text.replace(old, new))


def unlocked() -> None:
    """Bookings take no lock."""
    for module in (booking_service, locks):
        _replace(module, "time_locks", lambda **_: {"first_lock": None, "second_lock": None})


def bare_insert() -> None:
    """Bookings take no lock and find no obstacle: the constraint decides, and a loser has waited for the winner."""
    unlocked()
    for statement in (bookings.ADD, bookings.ADD_WITH_ANSWER):
        _edit(statement, "sql", "ON CONFLICT DO NOTHING", "")

    def blind(obstacles: Obstacles) -> Obstacles:
        return obstacles._replace(patient_busy=False, doctor_busy=False)

    async def blind_look(*arguments: Any) -> tuple[Obstacles, bool]:
        obstacles, answered = await look(*arguments)
        return blind(obstacles), answered

    async def blind_find(*arguments: Any) -> tuple[Obstacles, OpenTime]:
        obstacles, open_time = await find_obstacles(*arguments)
        return blind(obstacles), open_time

    look = _replace(booking_service, "look", blind_look)
    find_obstacles = _replace(booking_service, "find_obstacles", blind_find)


def ack_first() -> None:
    """An event is acknowledged before its effect is durable."""

    async def acknowledge_and_process(self: Consumer[Any], entry_id: str, fields: dict[bytes, bytes]) -> None:
        await self._redis.xack(self._stream, self._group, entry_id)
        await process(self, entry_id, fields)

    process = _replace(Consumer, "_process", acknowledge_and_process)


def not_unique() -> None:
    """No index keeps an event from causing two notifications for one recipient and channel, and none is asked for."""

    def insert(notification: NewNotification) -> InsertOne[dict[str, Any]]:
        return InsertOne(notifying._document(notification))

    _replace(notifying, "_once", insert)
    indexes = INDEXES["notifications"]
    indexes.remove(next(one for one in indexes if one.document["name"] == "notification_once"))


def no_rebuild() -> None:
    """The relay does not send again what Redis lost."""
    _edit(outbox_rows, "_AFTER", "WHERE", "WHERE false AND")


def watermark() -> None:
    """The relay reads rows above the highest one that it has sent, and never sees a lower one that commits later."""
    above = "WHERE stream_seq IS NULL AND seq > (SELECT coalesce(max(seq), 0) FROM outbox WHERE stream_seq IS NOT NULL)"
    _edit(outbox_rows, "_NUMBER", "WHERE stream_seq IS NULL", above)


def pubsub() -> None:
    """Events of appointments are published to the subscribers of the moment, and stored nowhere."""

    async def publish(self: Relay) -> int | None:
        if self._stream != APPOINTMENTS.name:
            sent: int | None = await send(self)
            return sent
        async with self._connection.transaction():
            if not await self._rows.lock(self._stream):
                return None
            await self._open(keys=[self._stream], args=self._groups)
            _, numbered = await self._rows.position(self._stream)
            rows = await self._rows.give_numbers(numbered, 500)
            for row in rows:
                with ExitStack() as spans:
                    _, *flat = self._entry(row, spans)
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                await self._redis.publish(self._stream, json.dumps(fields))
        return len(rows)

    async def subscribe(self: Consumer[Any], stop: asyncio.Event) -> None:
        if self._stream != APPOINTMENTS.name:
            await run(self, stop)
            return
        async with Redis.from_url(self._redis_url) as redis, redis.pubsub() as channel:
            await channel.subscribe(self._stream)
            while not stop.is_set():
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=0.2)
                if message:
                    failpoint("received")
                    await self._handle(decode_entry("0-0", json.loads(message["data"]), self._decode))

    send = _replace(Relay, "_send", publish)
    run = _replace(Consumer, "run", subscribe)


def skewed_clock(seconds: float) -> None:
    """Our own code and the token library read a clock that is wrong by `seconds`.

    Ids of rows and documents, which a library makes, and the databases' clocks stay right.
    """
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
