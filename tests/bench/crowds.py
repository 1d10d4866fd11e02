"""Many clients at once: for one slot, and at the login."""

import asyncio
from statistics import quantiles
from typing import NamedTuple

from tests.bench.client import Plan, Report, sent
from tests.bench.stack import BenchFailed, Stack

_CLIENTS = 128
_LOGINS = 50
_PROBES_PER_SECOND = 100.0


class Times(NamedTuple):
    """Percentiles in milliseconds."""

    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Times":
        cuts = quantiles(seconds, n=100, method="inclusive")
        return cls(cuts[49] * 1000, cuts[98] * 1000, max(seconds) * 1000)


class HotSlot(NamedTuple):
    clients: int
    slots: int
    times: Times


async def hot_slot(stack: Stack, slots: int) -> HotSlot:
    """Let all clients ask for each slot at once: one gets it, and the others are refused."""
    booking = stack.processes("booking")[0]
    report = await sent(
        Plan(
            ports=[booking.port],
            requests=stack.requests.hot_slots(slots, _CLIENTS),
            connections=_CLIENTS,
            waves=True,
            expected=(201, 409),
        )
    )
    if report.statuses.get(201) != slots:
        raise BenchFailed(f"{slots} slots, but the statuses {report.statuses}")
    return HotSlot(_CLIENTS, slots, Times.of(report.seconds))


class Logins(NamedTuple):
    """`live` are the times of `/api/health/live` during the logins, `quiet` its times without them."""

    clients: int
    per_second: float
    refused: int
    times: Times
    live: Times
    quiet: Times


async def logins(stack: Stack, seconds: float) -> Logins:
    """Log in without a pause. A login that would wait too long for a core is answered 503."""
    port = stack.processes("auth")[0].port
    crowd = Plan(
        ports=[port],
        requests=stack.requests.logins(),
        repeatable=True,
        connections=_LOGINS,
        seconds=seconds,
        expected=(200, 503),
    )
    quiet = await sent(_probes(stack, port, seconds))
    report, live = await asyncio.gather(sent(crowd), sent(_probes(stack, port, seconds)))
    return Logins(
        _LOGINS,
        report.per_second,
        report.statuses.get(503, 0),
        Times.of(report.seconds),
        _times(live),
        _times(quiet),
    )


def _probes(stack: Stack, port: int, seconds: float) -> Plan:
    number = int(seconds * _PROBES_PER_SECOND)
    return Plan(ports=[port], requests=stack.requests.liveness(number), per_second=_PROBES_PER_SECOND)


def _times(report: Report) -> Times:
    return Times.of(report.seconds)
