"""Playing one row: load, faults at random instants, then quiet, then the checks."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from time import monotonic, time

from tests.faults.checks.every import check
from tests.faults.checks.evidence import Evidence, Finding
from tests.faults.client import Client
from tests.faults.ledger import Ledger, Operation, read
from tests.faults.platform import Commands, Platform, Settings
from tests.faults.row import Fault, Length, Result, Row
from tests.faults.workload import Workload

_PATIENCE_SECONDS = 60.0
# A message that is delivered twice would arrive within this time.
_STRAGGLING_SECONDS = 1.0
_POOL = 20  # connections of a service's pool
_LEAST_IN_A_LONG_RUN = 10
TIME = "time"  # the check of bounds that a busy machine may miss


class Run:
    """What a row's `play` may do. `note` adds to the printed result; `require` and `within` decide the verdict."""

    def __init__(self, platform: Platform, row: Row, length: Length, seed: int) -> None:
        self.platform, self._row, self.length, self.seed = platform, row, length, seed
        self.random = random.Random(seed)
        # A source of its own, so that the faults of a seed do not depend on when answers arrive.
        self._load_random = random.Random(f"{seed} load")
        self._ledger = Ledger(platform.folder / f"ledger-{row.name}-{seed}.jsonl")
        self._workloads: list[Workload] = []
        self.client = Client(platform.people, platform.balancer)
        self.faults: list[Fault] = []
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.uncounted_faults = 0

    @property
    def seconds(self) -> float:
        return self.length.seconds

    @asynccontextmanager
    async def load(
        self, *, patience_seconds: float = _PATIENCE_SECONDS, share: float = 1.0, seconds: float | None = None
    ) -> AsyncIterator[None]:
        """Run the workload beside the block and wait for its end; `share` is the part of the usual rate.

        With infinite `seconds` it ends with the block.
        """
        await self.fill_pools()
        workload = Workload(
            self.platform.people,
            self.platform.balancer,
            self._ledger,
            self._load_random,
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

    async def fill_pools(self) -> None:
        """Have booking open all its connections to PostgreSQL, so that the cost of that is not blamed on a fault."""
        people, balancer = self.platform.people, self.platform.balancer
        headers = people.headers(people.patients[0])
        await asyncio.gather(
            *(
                balancer.send_to(replica, "GET", "/api/appointments", headers)
                for replica in self.platform.replicas("booking")
                for _ in range(_POOL)
            )
        )

    async def instants(self, every_seconds: float) -> AsyncIterator[int]:
        """Wait for random moments while the load runs, but none in its last 15 %; yield their numbers from 0."""
        least = _LEAST_IN_A_LONG_RUN if self.length.long else 2
        number = max(least, int(self.seconds / every_seconds))
        first = monotonic()
        for index, at in enumerate(sorted(self.random.uniform(0.5, self.seconds * 0.85) for _ in range(number))):
            await asyncio.sleep(first + at - monotonic())
            yield index

    @asynccontextmanager
    async def fault(self, name: str) -> AsyncIterator[None]:
        """Record a fault that lasts as long as the block."""
        began_at = time()
        yield
        self.faults.append(Fault(name, began_at, time()))

    @asynccontextmanager
    async def failpoint(self, service: str, chances: str, **settings: str) -> AsyncIterator[None]:
        """Let processes of the service kill themselves while the block lasts. `settings` stay in force after it."""
        await self.configure({service: {"FAILPOINTS": chances, **settings}})
        before = len(self.platform.deaths)
        yield
        await self.configure({service: settings})
        deaths = self.platform.deaths[before:]
        self.faults += [Fault(f"died at {chances}", at, at) for at in deaths]
        self.require(bool(deaths), f"no process died at {chances}: the row proves nothing")

    def require(self, holds: bool, otherwise: str, check: str = "row") -> None:
        if not holds:
            self.findings.append(Finding(check, otherwise))

    def within(self, holds: bool, otherwise: str) -> None:
        """Require a bound on times or refusals, which a machine that is busy with other programs may miss."""
        self.require(holds, otherwise, TIME)

    def note(self, text: str) -> None:
        self.notes.append(text)

    async def configure(self, settings: Settings | None = None, commands: Commands | None = None) -> None:
        await self.platform.configure(settings, commands)

    async def settled(self) -> list[Operation]:
        """Wait until every client has finished, and return what the ledger holds."""
        for workload in self._workloads:
            await workload.settled()
        return read(self._ledger.path)

    async def quiet(self) -> float:
        """Start what is down, restore the defaults, and wait until every event is acknowledged.

        Return the seconds from the last client's answer.
        """
        servers = self.platform.servers
        for server in servers.all:
            if server.pid is None:
                await servers.start(server)
        # Before the defaults are restored, because those restarts are not part of the row.
        await self.settled()
        ended = monotonic()
        await self.configure()
        limit = self.length.quiet_seconds
        self.require(await servers.quiet(limit), f"events are unread {limit:.0f} s after the last fault")
        return monotonic() - ended

    async def finish(self) -> Result:
        """Wait for quiet, run the checks and return the result."""
        drained_seconds = await self.quiet()
        await asyncio.sleep(_STRAGGLING_SECONDS)
        operations = await self.settled()
        servers = self.platform.servers
        async with servers.database("booking") as booking, servers.database("auth") as auth:
            evidence = Evidence(
                operations=operations,
                booking=booking,
                auth=auth,
                mongodb=self.platform.documents,
                redis=servers.redis_client,
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
            faults=len(self.faults) + self.uncounted_faults,
            requests=self.client.requests + sum(len(operation.replies) for operation in operations),
            acknowledged=self.client.acknowledged + sum(operation.outcome == "ok" for operation in operations),
            longest_recovery=self.longest_recovery(operations),
            drained_seconds=drained_seconds,
            findings=self.findings,
            notes=self.notes,
        )

    def longest_recovery(self, operations: list[Operation]) -> float:
        """Return the longest time, in seconds, from the end of a fault to the next acknowledgement."""
        acknowledged = sorted(reply.at for operation in operations for reply in operation.acknowledgements)
        return max(
            (
                next((at for at in acknowledged if at >= fault.ended_at), fault.ended_at) - fault.ended_at
                for fault in self.faults
            ),
            default=0.0,
        )
