"""docs/performance.md: a table for each question, and which of the targets hold."""

import os
import platform
import textwrap
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import NamedTuple

from tests.bench.crowds import HotSlot, Logins, Times
from tests.bench.throughput import Growth, Load, Replicas, Route
from tests.bench.told import Told


class Measured(NamedTuple):
    load: Load
    routes: list[Route]
    growth: list[Growth]
    replicas: list[Replicas]
    told: list[Told]
    hot_slot: HotSlot
    logins: Logins
    answers: int
    turned_away: int
    busy_before: float
    minutes: float


class Target(NamedTuple):
    name: str
    wanted: str
    found: str
    holds: bool


def targets(measured: Measured) -> list[Target]:
    routes = {route.name: route for route in measured.routes}
    read, booking = routes["get a doctor"].to_bare, routes["book"].to_pgbench or 0
    growth = max(one.factor for one in measured.growth if one.name.startswith("list"))
    hot, live = measured.hot_slot.times.p99, measured.logins.live.p99
    return [
        Target("a single row's read, of the bare handler's rate", "≥ 80 %", f"{read:.0%}", read >= 0.8),
        Target("a booking, of pgbench's rate", "≥ 40 %", f"{booking:.0%}", booking >= 0.4),
        Target("lists at the largest size, of their time at the smallest", "≤ 1.3 ×", f"{growth:.2f} ×", growth <= 1.3),
        Target(f"p99 of {measured.hot_slot.clients} clients on a hot slot", "< 250 ms", f"{hot:.0f} ms", hot < 250),
        Target(f"p99 of liveness during {measured.logins.clients} logins", "< 50 ms", f"{live:.0f} ms", live < 50),
    ]


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """The first column is text, the others are numbers."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, marks, *rows])


def page(measured: Measured) -> str:
    sections = [
        "# Performance",
        _prose(_run(measured)),
        "## What should hold",
        table(
            ["target", "wanted", "found", "holds"],
            [[one.name, one.wanted, one.found, "yes" if one.holds else "**no**"] for one in targets(measured)],
        ),
        "## What a request costs",
        table(
            ["", "ours /s", "bare /s", "pgbench /s", "ours / bare", "ours / pgbench", "CPU µs, ours", "CPU µs, bare"],
            map(_route, measured.routes),
        ),
        _prose(
            f"""Medians of {measured.load.rounds} rounds of {measured.load.seconds} s, of ratios too. Ours and bare:
            one process, 32 connections (8 that log in), and 20 to PostgreSQL, like pgbench. CPU is what a request
            takes of the server's process. *Bare* is the same statement in a Litestar handler on asyncpg's own pool,
            with Python's own settings of the garbage collector: no tokens, roles, quotas, metrics, logs or audit
            trail; its booking is one INSERT, its login one SELECT and the comparison of the password, which takes
            nearly all of either's time. *pgbench* sends the services' own statements, prepared, from C: for a booking
            the look before, the locks, the look under them, and the appointment with its history, event, audit entry
            and idempotency key. Ours has, in the same process, the relay that puts each event into Redis."""
        ),
        "## How the cost grows",
        table(
            ["requests /s of one process", *(f"{size:,}" for size in measured.growth[0].sides), "longer by"],
            map(_growth, measured.growth),
        ),
        _prose(
            """The columns are appointments in the database, of which a twentieth is to come; 200 doctors and 200
            patients have them. A process for each size, in turns."""
        ),
        "## One and two replicas",
        table(["", "one /s", "two /s", "two / one"], map(_replicas, measured.replicas)),
        _prose(
            """Both replicas share the machine's cores with their clients and databases: this shows whether two stand
            in each other's way, and what they gain where cores are left."""
        ),
        "## From a booking to its notifications",
        table(["milliseconds", "p50", "p99", "longest"], [row for told in measured.told for row in _told(told)]),
        _prose(
            f"""Until both people's notifications can be read in MongoDB: {measured.told[0].bookings} bookings at 40 a
            second, and each notification was there exactly once. Seen by a look every 5 ms, which is part of the
            times."""
        ),
        "## Crowds",
        table(["milliseconds", "p50", "p99", "longest"], _crowds(measured)),
        _prose(
            f"""{measured.hot_slot.slots} slots, one after the other, each wanted by {measured.hot_slot.clients}
            patients at the same moment: every time one got it, and the others were told so with three free times.
            {measured.logins.clients} clients who log in without a pause: {measured.logins.per_second:.0f} a second, and
            {measured.logins.refused} answers were 503. Liveness is asked for 100 times a second."""
        ),
    ]
    return "\n\n".join(sections) + "\n"


def _run(measured: Measured) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("litestar", "asyncpg", "uvicorn", "msgspec"))
    return f"""Written by `make bench`, which measures the machine it runs on. This run:
        {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores
        ({platform.system()} {platform.machine()}), Python {platform.python_version()},
        {versions}, PostgreSQL 18 with fsync. The load average was {measured.busy_before:.1f} when it began and
        {os.getloadavg()[0]:.1f} when it ended, after {measured.minutes:.0f} minutes. Clients, services and databases
        share these cores, and other programs may have: the ratios, whose sides were measured in turns, say more than
        the rates. Of {measured.answers:,} answers {measured.turned_away:,} were 503, which time-outs of half a second
        to two make of a machine that is too busy; these are not among the rates."""


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


def _growth(growth: Growth) -> list[str]:
    rates = [f"{side.per_second:,.0f}" for side in growth.sides.values()]
    return [growth.name, *rates, f"{growth.factor:.2f} ×"]


def _replicas(replicas: Replicas) -> list[str]:
    one, two = replicas.one.per_second, replicas.two.per_second
    return [replicas.name, f"{one:,.0f}", f"{two:,.0f}", f"{two / one:.2f}"]


def _told(told: Told) -> list[list[str]]:
    of = "one replica" if told.replicas == 1 else f"{told.replicas} replicas"
    return [_times(f"since the request, {of}", told.since_request), _times(f"since the 201, {of}", told.since_answer)]


def _crowds(measured: Measured) -> list[list[str]]:
    return [
        _times("a hot slot", measured.hot_slot.times),
        _times("a login", measured.logins.times),
        _times("liveness during logins", measured.logins.live),
        _times("liveness otherwise", measured.logins.quiet),
    ]


def _times(name: str, times: Times) -> list[str]:
    return [name, *(f"{milliseconds:,.1f}" for milliseconds in times)]
