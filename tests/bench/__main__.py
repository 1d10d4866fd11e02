"""`python -m tests.bench`: measure on this machine what requests cost and how soon notifications arrive."""

import asyncio
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Annotated, NamedTuple

import typer

from tests.bench.client import ANSWERS, Refused
from tests.bench.crowds import hot_slot, logins
from tests.bench.notifications import booking_to_notification
from tests.bench.pgbench import PgbenchFailed
from tests.bench.report import Measured, page
from tests.bench.stack import BenchFailed, running
from tests.bench.throughput import Load, as_it_grows, beside_bare_and_pgbench, by_replicas, with_traces

_PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


class Sizes(NamedTuple):
    load: Load
    appointments: tuple[int, ...]
    bookings: int
    slots: int
    login_seconds: float


_FULL = Sizes(Load(rounds=3, seconds=2), (10_000, 100_000, 1_000_000), bookings=500, slots=20, login_seconds=5)
_QUICK = Sizes(Load(rounds=1, seconds=1), (10_000, 20_000), bookings=40, slots=2, login_seconds=1)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    output: Annotated[Path, typer.Option(help="The page to write")] = _PAGE,
    quick: Annotated[
        bool, typer.Option(help="Measure everything for a second and write no page, to see that the bench works")
    ] = False,
) -> None:
    """Compare our routes with bare handlers and pgbench, and time bookings until their notifications."""
    try:
        measured = asyncio.run(_measure(_QUICK if quick else _FULL))
    except (BenchFailed, PgbenchFailed, Refused) as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(1) from None
    typer.echo(page(measured))
    if not quick:
        output.write_text(page(measured))


async def _measure(sizes: Sizes) -> Measured:
    started, busy_before = monotonic(), os.getloadavg()[0]
    load = sizes.load
    _say(f"databases of {', '.join(f'{number:,}' for number in sizes.appointments)} appointments")
    with tempfile.TemporaryDirectory(prefix="booking-platform-bench-") as folder:
        async with running(Path(folder), sizes.appointments) as stack:
            _say("from a booking to its notifications, with one and two replicas")
            notified = [await booking_to_notification(stack, sizes.bookings)]
            await stack.add_replicas("auth", "booking", "notification")
            notified.append(await booking_to_notification(stack, sizes.bookings))
            # The rest measures one service at a time, so that no consumer needs to run.
            for process in stack.processes("notification"):
                process.stop()
            _say("one and two replicas")
            replicas = await by_replicas(stack, load)
            for service in ("auth", "booking"):
                stack.remove_replicas(service)
            _say("traces")
            traced = await with_traces(stack, load)
            _say("our routes, bare handlers and pgbench")
            routes = await beside_bare_and_pgbench(stack, load)
            _say("a hot slot, and many logins")
            slot, login = await hot_slot(stack, sizes.slots), await logins(stack, sizes.login_seconds)
            _say("how the cost grows")
            growth = await as_it_grows(stack, load)
    minutes = (monotonic() - started) / 60
    answers = ANSWERS.total(), ANSWERS[503]
    return Measured(load, routes, traced, growth, replicas, notified, slot, login, *answers, busy_before, minutes)


def _say(part: str) -> None:
    typer.echo(f"{datetime.now(UTC):%H:%M:%S} {part} ...", err=True)


if __name__ == "__main__":
    app(prog_name="python -m tests.bench")
