"""From a booking until both people's notifications can be read; each of them must be there exactly once."""

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
_TOLD_WITHIN_SECONDS = 20.0


class Told(NamedTuple):
    replicas: int
    bookings: int
    since_request: Times
    since_answer: Times


class _Booked(msgspec.Struct, rename="camel"):
    id: UUID
    patient_id: UUID
    doctor_id: UUID


async def booking_to_notification(stack: Stack, bookings: int) -> Told:
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
            deadline = time() + _TOLD_WITHIN_SECONDS
            while any(len(seen.get(visit.id, ())) < 2 for visit in booked) and time() < deadline:
                await asyncio.sleep(0.05)
        finally:
            watching.cancel()
        await asyncio.sleep(1)  # a repetition would come after
        told = Counter(
            [
                (document["appointmentId"], document["recipientId"])
                async for document in notifications.find({"appointmentId": {"$in": [visit.id for visit in booked]}})
            ]
        )
    if told != Counter((visit.id, person) for visit in booked for person in (visit.patient_id, visit.doctor_id)):
        raise BenchFailed(f"{2 * len(booked)} people should have been told once: {told.total()} notifications")
    told_at = [max(seen[visit.id]) for visit in booked]
    pairs = list(zip(exchanges, told_at, strict=True))[warm_up:]
    return Told(
        len(ports),
        bookings,
        Times.of([at - exchange.due_at for exchange, at in pairs]),
        Times.of([at - exchange.answered_at for exchange, at in pairs]),
    )


async def _watch(notifications: Any, seen: dict[UUID, list[float]]) -> None:
    """Notes when the notifications of an appointment could first be read, late by one look at most.

    It looks again and again because a MongoDB that is no replica set tells nobody of its changes; and by the clock here
    because `createdAt` is from before the write.
    """
    known = set()
    while True:
        recent = UUID(int=int((time() - _STRAGGLING_SECONDS) * 1000) << 80)  # as a UUIDv7 of that time begins
        found = await notifications.find({"_id": {"$gt": recent}}, {"appointmentId": 1}).to_list()
        now = time()
        for document in found:
            if document["_id"] not in known:
                known.add(document["_id"])
                seen.setdefault(document["appointmentId"], []).append(now)
        await asyncio.sleep(_POLL_SECONDS)
