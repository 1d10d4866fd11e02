"""One row of the matrix: load, faults at random instants, then rest, then the checks."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from time import monotonic, time
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx

from tests.faults.checks import Evidence, Finding, check
from tests.faults.front import Answer
from tests.faults.ledger import Ledger, Operation, read
from tests.faults.platform import Commands, Platform, Settings
from tests.faults.workload import Slot, Workload
from tests.support.metrics import total

_PATIENCE_SECONDS = 60.0
# A second delivery of what was delivered already would come after.
_STRAGGLING_SECONDS = 1.0
_POOL = 20  # connections of a service's pool
_LEAST_IN_A_LONG_RUN = 10
TIME = "time"


class Fault(NamedTuple):
    """By the machine's clock, as the ledger's times are."""

    what: str
    began_at: float
    ended_at: float


class Row(NamedTuple):
    """`cuts`: the fault may leave a client without an answer, which is not the platform's failure then."""

    name: str
    title: str
    play: "Callable[[Run], Awaitable[None]]"
    cuts: bool


class Result(NamedTuple):
    row: Row
    seed: int
    faults: int
    requests: int
    acknowledged: int
    longest_recovery: float
    drained_seconds: float
    findings: list[Finding]
    notes: list[str]

    def number(self, harm: str) -> int:
        return sum(finding.number for finding in self.findings if finding.harm == harm)


class Length(NamedTuple):
    """`long`: at least ten faults of a kind."""

    seconds: float
    per_second: float
    long: bool
    quiet_seconds: float = 120.0


class Run:
    """What a row may do. `note` is for people to read, `require` and `within` for the verdict."""

    def __init__(self, platform: Platform, row: Row, length: Length, seed: int) -> None:
        self.platform, self._row, self.length, self.seed = platform, row, length, seed
        self.chance = random.Random(seed)
        self._ledger = Ledger(platform.folder / f"ledger-{row.name}-{seed}.jsonl")
        # Of its own, so that a seed's faults do not depend on how soon answers come.
        self._load_chance = random.Random(f"{seed} load")
        self._workloads: list[Workload] = []
        self.faults: list[Fault] = []
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.requests = self.acknowledged = self.other_faults = 0

    @property
    def seconds(self) -> float:
        return self.length.seconds

    @asynccontextmanager
    async def load(
        self, *, patience_seconds: float = _PATIENCE_SECONDS, share: float = 1.0, seconds: float | None = None
    ) -> AsyncIterator[None]:
        """The workload runs beside the block, and to its own end; `share` is that of the usual rate.

        `seconds` of infinity: until the block ends.
        """
        await self.warm()
        workload = Workload(
            self.platform.people,
            self.platform.front,
            self._ledger,
            self._load_chance,
            per_second=self.length.per_second * share,
            patience_seconds=patience_seconds,
        )
        self._workloads.append(workload)
        running = asyncio.create_task(workload.run(seconds or self.seconds))
        try:
            yield
            if seconds != inf:
                await running
        finally:
            running.cancel()

    async def warm(self) -> None:
        """The pools of processes that have just started are filled: no fault is in that."""
        people, front = self.platform.people, self.platform.front
        headers = people.headers(people.patients[0])
        await asyncio.gather(
            *(
                front.ask(replica, "GET", "/api/appointments", headers)
                for replica in self.platform.replicas("booking")
                for _ in range(_POOL)
            )
        )

    async def instants(self, every_seconds: float) -> AsyncIterator[int]:
        """Random moments of the load's time, of which the last part stays quiet."""
        least = _LEAST_IN_A_LONG_RUN if self.length.long else 2
        number = max(least, int(self.seconds / every_seconds))
        first = monotonic()
        for index, at in enumerate(sorted(self.chance.uniform(0.5, self.seconds * 0.85) for _ in range(number))):
            await asyncio.sleep(first + at - monotonic())
            yield index

    @asynccontextmanager
    async def fault(self, what: str) -> AsyncIterator[None]:
        """It has ended when the block has."""
        began_at = time()
        yield
        self.faults.append(Fault(what, began_at, time()))

    @asynccontextmanager
    async def failpoint(self, service: str, chances: str, **settings: str) -> AsyncIterator[None]:
        """Processes of the service die by themselves while the block lasts; they keep the other `settings` after it."""
        await self.configure({service: {"FAILPOINTS": chances, **settings}})
        already = len(self.platform.deaths)
        yield
        await self.configure({service: settings})
        deaths = self.platform.deaths[already:]
        self.faults += [Fault(f"died at {chances}", at, at) for at in deaths]
        self.require(bool(deaths), f"no process died at {chances}, which proves nothing")

    @asynccontextmanager
    async def tapped(self, stream: str) -> AsyncIterator[Counter[str]]:
        """How often each event is in the stream, read beside the groups."""
        seen: Counter[str] = Counter()
        redis = self.platform.stream
        position: Any = (await redis.xinfo_stream(stream))["last-generated-id"]

        async def read_on() -> None:
            nonlocal position
            while True:
                replies: Any = await redis.xread({stream: position}, count=500)
                for _, entries in replies:
                    seen.update(fields[b"id"].decode() for _, fields in entries)
                    position = entries[-1][0]
                await asyncio.sleep(0.1)

        reading = asyncio.create_task(read_on())
        try:
            yield seen
        finally:
            reading.cancel()

    # Single requests, which are in no ledger

    async def get(self, service: str, path: str, caller: UUID) -> Answer:
        self.requests += 1
        return await self.platform.front.send(service, "GET", path, self.platform.people.headers(caller))

    async def book(self, slot: Slot) -> Answer:
        self.requests += 1
        key = uuid4().hex
        headers = {**self.platform.people.headers(slot.patient), "Idempotency-Key": key}
        body = {"doctorId": slot.doctor, "dateTime": slot.starts_at, "notes": key}
        answer = await self.platform.front.send("booking", "POST", "/api/appointments", headers, body)
        self.acknowledged += answer.status == 201
        return answer

    async def guess(self, email: str) -> int:
        """The status of a login with a wrong password."""
        self.requests += 1
        body = {"email": email, "password": "a wrong guess"}
        return (await self.platform.front.send("auth", "POST", "/api/patients/login", {}, body)).status

    async def booked(self) -> tuple[Slot, dict[str, Any]]:
        slot = self.platform.people.free_slot()
        return slot, (await self.book(slot)).json()

    async def change(self, visit: dict[str, Any], caller: UUID, body: dict[str, Any], etag: str | None) -> Answer:
        self.requests += 1
        headers = self.platform.people.headers(caller) | ({"If-Match": etag} if etag else {})
        path = f"/api/appointments/{visit['id']}"
        answer = await self.platform.front.send("booking", "PATCH", path, headers, body)
        self.acknowledged += answer.status == 200
        return answer

    async def metric(self, service: str, name: str) -> float:
        """The sum over the service's replicas."""
        async with httpx.AsyncClient(trust_env=False) as client:
            pages = [(await client.get(f"{one.internal_url}/metrics")).text for one in self.platform.replicas(service)]
        return sum(total(page, name) for page in pages)

    async def delays(self, since: float) -> list[float]:
        """Of every event since then: the seconds until its notifications were written, by two clocks of one machine."""
        async with self.platform.database("booking") as connection:
            rows = await connection.fetch(
                "SELECT id, created_at FROM outbox WHERE created_at > to_timestamp($1)", since
            )
        written = {row["id"]: row["created_at"] for row in rows}
        told = self.platform.documents["notifications"].find({"eventId": {"$in": list(written)}})
        return [(one["createdAt"] - written[one["eventId"]]).total_seconds() for one in await told.to_list()]

    def require(self, holds: bool, otherwise: str, check: str = "row") -> None:
        if not holds:
            self.findings.append(Finding(check, otherwise))

    def within(self, holds: bool, otherwise: str) -> None:
        """As `require`, of a bound on times or on refusals, which a machine that is busy with other things may miss."""
        self.require(holds, otherwise, TIME)

    def note(self, text: str) -> None:
        self.notes.append(text)

    async def configure(self, settings: Settings | None = None, commands: Commands | None = None) -> None:
        await self.platform.configure(settings, commands)

    async def settled(self) -> list[Operation]:
        """Every client has ended; what they saw so far."""
        for workload in self._workloads:
            await workload.settled()
        return read(self._ledger.path)

    async def rest(self) -> float:
        """Heals, and waits until everybody is told; the seconds since the clients had their answers."""
        for server in (self.platform.postgres, self.platform.redis, self.platform.mongodb):
            if server.pid is None:
                await self.platform.start(server)
        # First: a restart is no part of what the row does to them.
        await self.settled()
        ended = monotonic()
        await self.platform.configure()
        limit = self.length.quiet_seconds
        self.require(await self.platform.quiet(limit), f"not quiet {limit:.0f} s after the last fault")
        return monotonic() - ended

    async def finish(self) -> Result:
        drained_seconds = await self.rest()
        await asyncio.sleep(_STRAGGLING_SECONDS)
        operations = await self.settled()
        async with self.platform.database("booking") as booking, self.platform.database("auth") as auth:
            evidence = Evidence(
                operations=operations,
                booking=booking,
                auth=auth,
                mongodb=self.platform.documents,
                redis=self.platform.stream,
                logs=self.platform.new_logs(),
                cuts=self._row.cuts,
            )
            self.findings += await check(evidence)
        self._ledger.close()
        return self.result(drained_seconds)

    def result(self, drained_seconds: float = 0.0) -> Result:
        operations = read(self._ledger.path)
        return Result(
            row=self._row,
            seed=self.seed,
            faults=len(self.faults) + self.other_faults,
            requests=self.requests + sum(len(operation.replies) for operation in operations),
            acknowledged=self.acknowledged + sum(operation.outcome == "ok" for operation in operations),
            longest_recovery=self.longest_recovery(operations),
            drained_seconds=drained_seconds,
            findings=self.findings,
            notes=self.notes,
        )

    def longest_recovery(self, operations: list[Operation]) -> float:
        """From a fault's end to the next acknowledgement."""
        acknowledged = sorted(reply.at for operation in operations for reply in operation.acknowledgements)
        return max(
            (
                next((at for at in acknowledged if at >= fault.ended_at), fault.ended_at) - fault.ended_at
                for fault in self.faults
            ),
            default=0.0,
        )
