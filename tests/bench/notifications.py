"""The time from a booking until both parties' notifications can be read, each of which must exist exactly once."""

import asyncio
from collections import Counter
from time import time
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pymongo

from tests.bench.client import Plan, sent
from tests.bench.crowds import Times
from tests.bench.stack import BenchFailed, Stack

_PER_SECOND = 40.0
_POLL_SECONDS = 0.005
_STRAGGLING_SECONDS = 2.0
_NOTIFIED_WITHIN_SECONDS = 20.0


class Notified(NamedTuple):
    replicas: int
    bookings: int
    since_request: Times
    since_answer: Times


class _Booked(msgspec.Struct, rename="camel"):
    id: UUID
    patient_id: UUID
    doctor_id: UUID


async def booking_to_notification(stack: Stack, bookings: int) -> Notified:
    warm_up = int(_PER_SECOND)
    ports = [process.port for process in stack.processes("booking")]
    plan = Plan(ports=ports, requests=stack.requests.bookings(warm_up + bookings), per_second=_PER_SECOND)
    seen: dict[UUID, list[float]] = {}
    async with pymongo.AsyncMongoClient[dict[str, Any]](stack.mongodb_url, uuidRepresentation="standard") as mongodb:
        notifications = mongodb["notification"]["notifications"]
        watching = asyncio.create_task(_watch(notifications, seen))
        try:
            exchanges = (await sent(plan)).exchanges
            booked = [msgspec.json.decode(exchange.body, type=_Booked) for exchange in exchanges]
            deadline = time() + _NOTIFIED_WITHIN_SECONDS
            while any(len(seen.get(appointment.id, ())) < 2 for appointment in booked) and time() < deadline:
                await asyncio.sleep(0.05)
        finally:
            watching.cancel()
        await asyncio.sleep(1)  # a second notification of the same event would arrive within this time
        await _require_each_once(notifications, booked)
    notified_at = [max(seen[appointment.id]) for appointment in booked]
    pairs = list(zip(exchanges, notified_at, strict=True))[warm_up:]
    return Notified(
        len(ports),
        bookings,
        Times.of([at - exchange.due_at for exchange, at in pairs]),
        Times.of([at - exchange.answered_at for exchange, at in pairs]),
    )


async def _require_each_once(notifications: Any, booked: list[_Booked]) -> None:
    written = notifications.find({"appointmentId": {"$in": [appointment.id for appointment in booked]}})
    found = Counter([(document["appointmentId"], document["recipientId"]) async for document in written])
    due = Counter((one.id, recipient) for one in booked for recipient in (one.patient_id, one.doctor_id))
    if found != due:
        raise BenchFailed(f"expected one notification for each of {due.total()} recipients, found {found.total()}")


async def _watch(notifications: Any, seen: dict[UUID, list[float]]) -> None:
    """Poll for new notifications, and note by their appointment when each could be read, late by one poll at most.

    Polls, because a MongoDB that is not a replica set has no change streams, and reads the clock here, because
    `createdAt` is from before the write.
    """
    known = set()
    while True:
        recent = UUID(int=int((time() - _STRAGGLING_SECONDS) * 1000) << 80)  # the first UUIDv7 of that millisecond
        found = await notifications.find({"_id": {"$gt": recent}}, {"appointmentId": 1}).to_list()
        now = time()
        for document in found:
            if document["_id"] not in known:
                known.add(document["_id"])
                seen.setdefault(document["appointmentId"], []).append(now)
        await asyncio.sleep(_POLL_SECONDS)
