"""docs/performance.md: a table for each question, and the targets with what was measured."""

import os
import platform
import textwrap
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import NamedTuple

from tests.bench.crowds import HotSlot, Logins, Times
from tests.bench.notifications import Notified
from tests.bench.throughput import Growth, Load, Replicas, Route, Traced


class Measured(NamedTuple):
    """`answers` were sent where no 503 was expected; `unavailable` of them were 503."""

    load: Load
    routes: list[Route]
    traced: list[Traced]
    growth: list[Growth]
    replicas: list[Replicas]
    notified: list[Notified]
    hot_slot: HotSlot
    logins: Logins
    answers: int
    unavailable: int
    busy_before: float
    minutes: float


class Target(NamedTuple):
    name: str
    limit: str
    measured: str
    met: bool


def targets(measured: Measured) -> list[Target]:
    routes = {route.name: route for route in measured.routes}
    read, booking = routes["get a doctor"].to_bare, routes["book"].to_pgbench or 0
    growth = max(one.factor for one in measured.growth if one.name.startswith("list"))
    traced = max(one.ratio for one in measured.traced)
    hot, live = measured.hot_slot.times.p99, measured.logins.live.p99
    return [
        Target("read of a single row, compared with the bare handler's rate", "≥ 80 %", f"{read:.0%}", read >= 0.8),
        Target("booking, compared with pgbench's rate", "≥ 40 %", f"{booking:.0%}", booking >= 0.4),
        Target(
            "lists in the largest database, compared with the smallest", "≤ 1.3 ×", f"{growth:.2f} ×", growth <= 1.3
        ),
        Target("CPU time of traces, when every tenth is recorded", "≤ 5 %", f"{traced - 1:.1%}", traced <= 1.05),
        Target(f"p99 of {measured.hot_slot.clients} clients on a hot slot", "< 250 ms", f"{hot:.0f} ms", hot < 250),
        Target(f"p99 of liveness during {measured.logins.clients} logins", "< 50 ms", f"{live:.0f} ms", live < 50),
    ]


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a table whose first column is text and whose other columns are numbers."""
    alignment = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, alignment, *rows])


def page(measured: Measured) -> str:
    sections = [
        "# Performance",
        _prose(_run(measured)),
        "## Targets",
        table(
            ["target", "limit", "measured", "met"],
            [[one.name, one.limit, one.measured, "yes" if one.met else "**no**"] for one in targets(measured)],
        ),
        "## The cost of a request",
        table(
            ["", "ours /s", "bare /s", "pgbench /s", "ours / bare", "ours / pgbench", "CPU µs, ours", "CPU µs, bare"],
            map(_route, measured.routes),
        ),
        _prose(
            f"""Medians of {measured.load.rounds} rounds of {measured.load.seconds} s; each ratio is the median of the
            rounds' ratios. Ours and bare are one process each, with 32 client connections (8 for logins) and 20 to
            PostgreSQL, as many as pgbench has. CPU is the server process' time for a request. *Bare* is the same
            statement in a Litestar handler on asyncpg's own pool, with Python's default garbage collection and without
            tokens, roles, quotas, metrics, logs or audit trail. Its booking is one INSERT; its login is one SELECT and
            the verification of the password, which takes nearly all of the time on both sides. *pgbench* sends the
            services' own prepared statements from C: a booking looks for obstacles, takes the locks, looks again under
            them, and writes the appointment with its history, event, audit entry and stored answer. In our process the
            relay runs as well, and appends each event to Redis."""
        ),
        *_traces(measured),
        "## Growth with the data",
        table(
            ["requests /s of one process", *(f"{size:,}" for size in measured.growth[0].sides), "slower by"],
            map(_growth, measured.growth),
        ),
        _prose(
            """The columns are numbers of appointments in the database, a twentieth of them in the future, for 200
            doctors and 200 patients. Each size has a process of its own, and the sizes take turns."""
        ),
        "## One and two replicas",
        table(["", "one /s", "two /s", "two / one"], map(_replicas, measured.replicas)),
        _prose(
            """Both replicas share the machine's cores with their clients and databases. The ratio shows whether two
            replicas block each other, and what they gain where cores are free."""
        ),
        "## From a booking to its notifications",
        table(["milliseconds", "p50", "p99", "longest"], [row for one in measured.notified for row in _notified(one)]),
        _prose(
            f"""The time until both parties' notifications can be read in MongoDB, for {measured.notified[0].bookings}
            bookings at 40 a second; each notification existed exactly once. The bench polls every 5 ms, which is part
            of the times."""
        ),
        "## Many clients at once",
        table(["milliseconds", "p50", "p99", "longest"], _crowds(measured)),
        _prose(
            f"""{measured.hot_slot.clients} patients asked for each of {measured.hot_slot.slots} slots at the same
            moment: one got it, and the others were refused with three free times. {measured.logins.clients} clients
            logged in without a pause: {measured.logins.per_second:.0f} logins a second, and
            {measured.logins.refused} answers were 503. Liveness was probed 100 times a second."""
        ),
    ]
    return "\n\n".join(sections) + "\n"


def _traces(measured: Measured) -> list[str]:
    return [
        "## Traces",
        table(["CPU µs of a request", "without", "every tenth recorded", "ratio"], map(_traced, measured.traced)),
        _prose(
            """Two processes take turns: one records nothing, the other every tenth trace, and sends it to a collector.
            The ratio is that of the least times: other programs only add to them. The time includes the thread that
            sends the spans."""
        ),
    ]


def _run(measured: Measured) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("litestar", "asyncpg", "uvicorn", "msgspec"))
    return f"""`make bench` writes this page and measures the machine it runs on. This run:
        {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores
        ({platform.system()} {platform.machine()}), Python {platform.python_version()},
        {versions}, PostgreSQL 18 with fsync. The load average was {measured.busy_before:.1f} at the start and
        {os.getloadavg()[0]:.1f} at the end, after {measured.minutes:.0f} minutes. Clients, services and databases
        share these cores, possibly with other programs. The sides of a ratio are measured in turns, so the ratios say
        more than the rates. Of {measured.answers:,} answers {measured.unavailable:,} were 503, which the services'
        time-outs of half a second to two cause on an overloaded machine; the rates leave these out."""


def _prose(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_on_hyphens=False)


def _route(route: Route) -> list[str]:
    return [
        route.name,
        f"{route.ours.per_second:,.0f}",
        f"{route.bare.per_second:,.0f}",
        "—" if route.pgbench is None else f"{route.pgbench:,.0f}",
        f"{route.to_bare:.2f}",
        "—" if route.to_pgbench is None else f"{route.to_pgbench:.2f}",
        f"{route.ours.cpu_microseconds:,.0f}",
        f"{route.bare.cpu_microseconds:,.0f}",
    ]


def _traced(traced: Traced) -> list[str]:
    sides = (traced.without.cpu_microseconds, traced.traced.cpu_microseconds)
    return [traced.name, *(f"{microseconds:,.0f}" for microseconds in sides), f"{traced.ratio:.3f}"]


def _growth(growth: Growth) -> list[str]:
    rates = [f"{side.per_second:,.0f}" for side in growth.sides.values()]
    return [growth.name, *rates, f"{growth.factor:.2f} ×"]


def _replicas(replicas: Replicas) -> list[str]:
    one, two = replicas.one.per_second, replicas.two.per_second
    return [replicas.name, f"{one:,.0f}", f"{two:,.0f}", f"{two / one:.2f}"]


def _notified(notified: Notified) -> list[list[str]]:
    replicas = "one replica" if notified.replicas == 1 else f"{notified.replicas} replicas"
    return [
        _times(f"since the request, {replicas}", notified.since_request),
        _times(f"since the 201, {replicas}", notified.since_answer),
    ]


def _crowds(measured: Measured) -> list[list[str]]:
    return [
        _times("a hot slot", measured.hot_slot.times),
        _times("a login", measured.logins.times),
        _times("liveness during logins", measured.logins.live),
        _times("liveness without logins", measured.logins.quiet),
    ]


def _times(name: str, times: Times) -> list[str]:
    return [name, *(f"{milliseconds:,.1f}" for milliseconds in times)]
