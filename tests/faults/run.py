"""One row of the matrix: load, faults at random instants, then rest, then the checks."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic, time
from typing import NamedTuple

from tests.faults.checks import Evidence, Finding, check
from tests.faults.ledger import Ledger, Operation, read
from tests.faults.platform import Commands, Platform, Settings
from tests.faults.workload import Workload

QUIET_SECONDS = 120.0
_PATIENCE_SECONDS = 60.0
# A second delivery of what was delivered already would come after.
_STRAGGLING_SECONDS = 1.0
_LEAST_IN_A_LONG_RUN = 10


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


class Run:
    """What a row may do. `note` is for people to read, `require` for the verdict."""

    def __init__(self, platform: Platform, row: Row, length: Length, seed: int) -> None:
        self.platform, self._row, self.length, self.seed = platform, row, length, seed
        self.chance = random.Random(seed)
        self._ledger = Ledger(platform.folder / f"ledger-{row.name}-{seed}.jsonl")
        self._workloads: list[Workload] = []
        self.faults: list[Fault] = []
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.requests = self.acknowledged = 0
        self.drained_seconds = 0.0

    @property
    def seconds(self) -> float:
        return self.length.seconds

    @asynccontextmanager
    async def load(
        self, *, patience_seconds: float = _PATIENCE_SECONDS, share: float = 1.0, seconds: float | None = None
    ) -> AsyncIterator[None]:
        """The workload runs beside the block, and for its whole time; `share` is that of the usual rate."""
        workload = Workload(
            self.platform.people,
            self.platform.front,
            self._ledger,
            self.chance,
            per_second=self.length.per_second * share,
            patience_seconds=patience_seconds,
        )
        self._workloads.append(workload)
        running = asyncio.create_task(workload.run(seconds or self.seconds))
        try:
            yield
            await running
        finally:
            running.cancel()

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

    def require(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.findings.append(Finding("row", otherwise))

    def note(self, text: str) -> None:
        self.notes.append(text)

    async def configure(self, settings: Settings | None = None, commands: Commands | None = None) -> None:
        await self.platform.configure(settings, commands)

    async def settled(self) -> list[Operation]:
        """Every client has ended; what they saw so far."""
        for workload in self._workloads:
            await workload.settled()
        return read(self._ledger.path)

    async def finish(self) -> Result:
        for server in (self.platform.postgres, self.platform.redis, self.platform.mongodb):
            if server.pid is None:
                await self.platform.start(server)
        await self.platform.configure()
        ended = monotonic()
        operations = await self.settled()
        is_quiet = await self.platform.quiet(QUIET_SECONDS)
        self.drained_seconds = monotonic() - ended
        await asyncio.sleep(_STRAGGLING_SECONDS)
        self.require(is_quiet, f"not quiet {QUIET_SECONDS:.0f} s after the last fault")
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
        return Result(
            row=self._row,
            seed=self.seed,
            faults=len(self.faults),
            requests=self.requests + sum(len(operation.replies) for operation in operations),
            acknowledged=self.acknowledged + sum(operation.outcome == "ok" for operation in operations),
            longest_recovery=self.longest_recovery(operations),
            drained_seconds=self.drained_seconds,
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
