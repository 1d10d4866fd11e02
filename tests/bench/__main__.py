"""`python -m tests.bench`: what the services cost, and how soon people are told, on this machine."""

import asyncio
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench.measure import Delay, Load, Route, Wishes, delays, prepare, throughput
from tests.bench.stack import BenchFailed, running

_FULL = Load(rounds=3, seconds=4, bookings=500)
_QUICK = Load(rounds=1, seconds=1, bookings=40)
_WIDTH = 120  # a number that is cut off is worse than a line that a narrow terminal wraps


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    output: Annotated[Path | None, typer.Option(help="A file to write the same to, as Markdown")] = None,
    quick: Annotated[bool, typer.Option(help="One round of a second: whether the bench works")] = False,
) -> None:
    """Measure our routes beside bare handlers of the same queries, and the way of a notification."""
    load = _QUICK if quick else _FULL
    try:
        routes, told = asyncio.run(_measure(load))
    except BenchFailed as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(1) from None
    console = Console(width=_WIDTH, highlight=False, soft_wrap=True, record=True)
    _show(console, load, routes, told)
    if output:
        output.write_text(console.export_text())


async def _measure(load: Load) -> tuple[list[Route], list[Delay]]:
    with tempfile.TemporaryDirectory(prefix="booking-platform-bench-") as folder:
        async with running(Path(folder)) as stack:
            wishes = Wishes(stack)
            await prepare(stack, wishes)
            told = await delays(stack, wishes, load)
            # The rounds are about one process each: from now on events stay in the stream.
            stack.processes["notification"].stop()
            return await throughput(stack, wishes, load), told


def _show(console: Console, load: Load, routes: list[Route], told: list[Delay]) -> None:
    console.print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.system()} {platform.machine()}, {os.cpu_count()} "
        f"processors, Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}"
    )
    console.print("\n## Requests per second of one process\n")
    table = _table("route", "ours", "bare", "ours/bare", "CPU µs, ours", "CPU µs, bare")
    for name, ours, bare in routes:
        numbers = (ours.per_second, bare.per_second, ours.cpu_microseconds, bare.cpu_microseconds)
        ours_rate, bare_rate, *cpu = (f"{number:,.0f}" for number in numbers)
        table.add_row(name, ours_rate, bare_rate, f"{ours.per_second / bare.per_second:.2f}", *cpu)
    console.print(table)
    console.print(
        f"\nMedians of {load.rounds} x {load.seconds:.0f} s with 32 connections. Bare: the same rows by the same "
        "statements (booking: one INSERT), without tokens, logs, metrics, locks, history or events. CPU: what a "
        "request takes of the server's process. Client and databases share the machine."
    )
    console.print("\n## Milliseconds until both people's notifications are stored\n")
    table = _table("since", "p50", "p99", "longest")
    for since, *milliseconds in told:
        table.add_row(since, *(f"{number:,.1f}" for number in milliseconds))
    console.print(table)
    console.print(
        f"\n{load.bookings} bookings at {load.bookings_per_second:.0f} a second; each of their {2 * load.bookings} "
        "notifications was there exactly once. Seen by looking into MongoDB every 5 ms, which is part of the times."
    )


def _table(first: str, *numbers: str) -> Table:
    table = Table(first, box=box.MARKDOWN)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.columns[0].no_wrap = True
    return table


if __name__ == "__main__":
    app(prog_name="python -m tests.bench")
