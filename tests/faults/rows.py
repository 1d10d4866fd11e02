"""The rows of the matrix. Each is a few lines over `Run`, whose C1 to C10 are checked after every one of them."""

from collections.abc import Awaitable, Callable

from tests.faults.ledger import Operation
from tests.faults.run import Row, Run

ROWS: dict[str, Row] = {}

_AVAILABLE_SECONDS = 10.0


def row(name: str, title: str, *, cuts: bool = False) -> Callable[[Callable[[Run], Awaitable[None]]], None]:
    def add(play: Callable[[Run], Awaitable[None]]) -> None:
        ROWS[name] = Row(name, title, play, cuts)

    return add


def _availability(operations: list[Operation]) -> float:
    """The share of those that had a definite answer soon, their own repetitions included."""
    soon = sum(
        one.verdict is not None and one.outcome != "unknown" and one.verdict.at - one.intent.at <= _AVAILABLE_SECONDS
        for one in operations
    )
    return soon / len(operations) if operations else 0.0


@row("1", "kill -9 one of two booking workers", cuts=True)
async def one_booking_worker(run: Run) -> None:
    async with run.load():
        async for number in run.instants(every_seconds=5):
            async with run.fault("kill -9"):
                run.platform.replicas("booking")[number % 2].kill()
    available = _availability(await run.settled())
    run.note(f"available {available:.2%}")
    run.require(available >= 0.99, f"only {available:.2%} had an answer within {_AVAILABLE_SECONDS:.0f} s")


@row("2", "kill -9 all booking workers", cuts=True)
async def all_booking_workers(run: Run) -> None:
    async with run.load():
        async for _ in run.instants(every_seconds=5):
            async with run.fault("kill -9"):
                for replica in run.platform.replicas("booking"):
                    replica.kill()
    unknown = sum(one.outcome == "unknown" for one in await run.settled())
    run.require(unknown == 0, f"{unknown} never learnt what became of their request")


@row("11", "PostgreSQL kill -9, restart", cuts=True)
async def postgres_crash(run: Run) -> None:
    async with run.load():
        async for _ in run.instants(every_seconds=5):
            async with run.fault("kill -9"):
                await run.platform.kill(run.platform.postgres)
            await run.platform.start(run.platform.postgres)
    recovery = run.longest_recovery(await run.settled())
    run.require(recovery <= 30, f"{recovery:.1f} s until the next acknowledgement")
