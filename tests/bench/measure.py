"""What is measured: requests per second beside a bare handler, and how long it takes until people are told."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from statistics import median, quantiles
from time import time
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pymongo

from tests.bench.client import Plan, Report
from tests.bench.stack import BenchFailed, Person, Stack
from tests.deployment import Process

_LISTED = 60
_MOST_PER_SECOND = 4000  # bookings that are ready to be sent; a machine that is faster ends its round earlier
_POLL_SECONDS = 0.005
_STRAGGLING_SECONDS = 2.0
_TOLD_WITHIN_SECONDS = 20.0


class Load(NamedTuple):
    rounds: int
    seconds: float
    bookings: int
    bookings_per_second: float = 40.0


class Side(NamedTuple):
    """The processor's time is that of the server's process, without the database's."""

    per_second: float
    cpu_microseconds: float


class Route(NamedTuple):
    name: str
    ours: Side
    bare: Side


class Delay(NamedTuple):
    since: str
    p50_ms: float
    p99_ms: float
    longest_ms: float


class _Booked(msgspec.Struct, rename="camel"):
    id: UUID
    patient_id: UUID
    doctor_id: UUID


class Wishes:
    """What the people of a stack ask for. No two of them ever want the same time."""

    def __init__(self, stack: Stack) -> None:
        self._doctors, self._patients = stack.doctors, stack.patients
        self._numbers = count()
        self._first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=1)

    def doctors(self) -> list[bytes]:
        pairs = zip(self._doctors, self._patients, strict=True)
        return [_request("GET", f"/api/doctors/{doctor}", patient) for doctor, patient in pairs]

    def appointments(self) -> list[bytes]:
        return [_request("GET", "/api/appointments?limit=50", self._patients[0])]

    def appointments_to_list(self) -> list[bytes]:
        """Years after everybody else's."""
        days = [self._first + timedelta(days=1000 + i) for i in range(_LISTED)]
        return [_booking(doctor, self._patients[0], day) for doctor, day in zip(self._doctors, days, strict=False)]

    def bookings(self, number: int) -> list[bytes]:
        """At any moment for different doctors and patients: waiting for each other's locks is not measured."""
        wishes = []
        for wish in islice(self._numbers, number):
            turn, place = divmod(wish, len(self._doctors))
            patient = self._patients[(place + turn) % len(self._patients)]
            wishes.append(_booking(self._doctors[place], patient, self._first + turn * timedelta(minutes=30)))
        return wishes


def _booking(doctor: UUID, patient: Person, starts_at: datetime) -> bytes:
    body = {"doctorId": doctor, "dateTime": starts_at, "notes": "First visit"}
    return _request("POST", "/api/appointments", patient, msgspec.json.encode(body))


def _request(method: str, target: str, caller: Person, body: bytes = b"") -> bytes:
    """The same bytes for both sides: the services believe the token, the bare handlers X-Caller."""
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {caller.token}\r\n"
    head += f"X-Caller: {caller.id}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


async def throughput(stack: Stack, wishes: Wishes, load: Load) -> list[Route]:
    ready = int(_MOST_PER_SECOND * load.seconds)
    routes: list[tuple[str, str, Callable[[], list[bytes]]]] = [
        ("GET /api/doctors/{id}", "auth", wishes.doctors),
        ("GET /api/appointments", "booking", wishes.appointments),
        ("POST /api/appointments", "booking", lambda: wishes.bookings(ready)),
    ]
    measured = []
    for name, service, requests in routes:
        ours: list[Side] = []
        bare: list[Side] = []
        # In turns, so that a noisy machine is noisy for both.
        for _ in range(load.rounds):
            for rounds, server in ((ours, service), (bare, "bare")):
                await stack.settled()
                plan = Plan(
                    port=stack.processes[server].port,
                    requests=requests(),
                    repeatable=name.startswith("GET"),
                    seconds=load.seconds,
                )
                rounds.append(await _round(stack.processes[server], plan))
        measured.append(Route(name, _middle(ours), _middle(bare)))
    return measured


async def _round(process: Process, plan: Plan) -> Side:
    before = process.cpu_seconds
    report = await _client(plan)
    return Side(report.per_second, (process.cpu_seconds - before) / report.sent * 1e6)


def _middle(rounds: list[Side]) -> Side:
    return Side(*(median(values) for values in zip(*rounds, strict=True)))


async def delays(stack: Stack, wishes: Wishes, load: Load) -> list[Delay]:
    """Until both people's notifications can be read from MongoDB; each of them must be there exactly once."""
    warm_up = int(load.bookings_per_second)
    port = stack.processes["booking"].port
    plan = Plan(port=port, requests=wishes.bookings(warm_up + load.bookings), per_second=load.bookings_per_second)
    seen: dict[UUID, list[float]] = {}
    async with pymongo.AsyncMongoClient[dict[str, Any]](stack.mongodb_url, uuidRepresentation="standard") as mongodb:
        notifications = mongodb["notification"]["notifications"]
        watching = asyncio.create_task(_watch(notifications, seen))
        exchanges = (await _client(plan)).exchanges
        booked = [msgspec.json.decode(exchange.body, type=_Booked) for exchange in exchanges]
        deadline = time() + _TOLD_WITHIN_SECONDS
        while any(len(seen.get(visit.id, ())) < 2 for visit in booked) and time() < deadline:
            await asyncio.sleep(0.05)
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
    return [
        _delay("the request's start", [at - exchange.due_at for exchange, at in pairs]),
        _delay("the 201", [at - exchange.answered_at for exchange, at in pairs]),
    ]


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


def _delay(since: str, seconds: list[float]) -> Delay:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return Delay(since, cuts[49] * 1000, cuts[98] * 1000, max(seconds) * 1000)


async def prepare(stack: Stack, wishes: Wishes) -> None:
    """Gives the first patient a list of appointments."""
    port = stack.processes["booking"].port
    await _client(Plan(port=port, requests=wishes.appointments_to_list(), per_second=100))


async def _client(plan: Plan) -> Report:
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "tests.bench.client"]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    output, complaint = await process.communicate(msgspec.msgpack.encode(plan))
    if process.returncode:
        raise BenchFailed(f"the client gave up: {complaint.decode().strip().splitlines()[-1]}")
    return msgspec.msgpack.decode(output, type=Report)
