"""Requests per second: beside a bare handler and pgbench, on databases of three sizes, by one and two replicas."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from tests.bench import pgbench
from tests.bench.client import Plan, sent
from tests.bench.stack import Stack
from tests.support.process import ServiceProcess

_MOST_PER_SECOND = 4000  # bookings that are ready to be sent; a machine that is faster ends its round earlier


class Load(NamedTuple):
    """Each number is the median of so many rounds; the sides take turns, so that a noisy machine is so for all."""

    rounds: int
    seconds: int


class Side(NamedTuple):
    """The processor's time is that of the server's process, without the database's."""

    per_second: float
    p50_ms: float
    cpu_microseconds: float

    @classmethod
    def median(cls, rounds: Sequence["Side"]) -> "Side":
        return cls(*(median(values) for values in zip(*rounds, strict=True)))


class Route(NamedTuple):
    """`to_bare` and `to_pgbench` are medians of the rounds' own ratios."""

    name: str
    ours: Side
    bare: Side
    pgbench: float | None
    to_bare: float
    to_pgbench: float | None


class _Asked(NamedTuple):
    name: str
    service: str
    requests: Callable[[], list[bytes]]
    script: tuple[str, str] | None  # the database and what pgbench does there
    connections: int = 32


async def beside_bare_and_pgbench(stack: Stack, load: Load) -> list[Route]:
    requests = stack.requests
    asked = [
        _Asked("get a doctor", "auth", requests.get_doctor, (stack.auth_url, pgbench.GET_A_DOCTOR)),
        _Asked("list 50 doctors", "auth", requests.list_doctors, (stack.auth_url, pgbench.LIST_DOCTORS)),
        _Asked(
            "list 20 appointments",
            "booking",
            requests.list_appointments,
            (stack.pgbench_url, pgbench.LIST_APPOINTMENTS),
        ),
        _Asked("book", "booking", lambda: requests.bookings(_ready(load)), (stack.pgbench_url, pgbench.BOOK)),
        # More would wait longer for a core than a service lets them.
        _Asked("log in", "auth", requests.logins, None, connections=8),
    ]
    return [await _route(stack, load, one) for one in asked]


async def _route(stack: Stack, load: Load, asked: _Asked) -> Route:
    ours, bare, plain = list[Side](), list[Side](), list[float]()
    for _ in range(load.rounds):
        for sides, server in ((ours, asked.service), (bare, "bare")):
            processes, wanted = stack.processes(server), asked.requests()
            sides.append(await _round(stack, load, processes, wanted, asked.name != "book", asked.connections))
        if asked.script is not None:
            plain.append(await pgbench.transactions_per_second(*asked.script, load.seconds))
    return Route(
        asked.name,
        Side.median(ours),
        Side.median(bare),
        median(plain) if plain else None,
        median(mine.per_second / theirs.per_second for mine, theirs in zip(ours, bare, strict=True)),
        median(mine.per_second / rate for mine, rate in zip(ours, plain, strict=True)) if plain else None,
    )


class Growth(NamedTuple):
    """By the number of appointments in the database."""

    name: str
    sides: dict[int, Side]

    @property
    def factor(self) -> float:
        """How much longer the largest takes than the smallest."""
        return self.sides[min(self.sides)].per_second / self.sides[max(self.sides)].per_second


async def as_it_grows(stack: Stack, load: Load) -> list[Growth]:
    requests = stack.requests
    asked = [
        ("list 20 appointments", requests.list_appointments),
        ("list 20 completed ones", requests.list_completed),
        ("book", lambda: requests.bookings(_ready(load))),
    ]
    grown = []
    async with stack.booking_of_every_size() as processes:
        for name, wanted in asked:
            sides: dict[int, list[Side]] = {size: [] for size in processes}
            for _ in range(load.rounds):
                for size, process in processes.items():
                    sides[size].append(await _round(stack, load, [process], wanted(), name != "book"))
            grown.append(Growth(name, {size: Side.median(rounds) for size, rounds in sides.items()}))
    return grown


class Replicas(NamedTuple):
    name: str
    one: Side
    two: Side


async def by_replicas(stack: Stack, load: Load) -> list[Replicas]:
    """Expects two of each service."""
    requests = stack.requests
    asked = [
        ("get a doctor", "auth", requests.get_doctor),
        ("list 20 appointments", "booking", requests.list_appointments),
        ("book", "booking", lambda: requests.bookings(_ready(load))),
    ]
    measured = []
    for name, service, wanted in asked:
        both = stack.processes(service)
        one, two = list[Side](), list[Side]()
        for _ in range(load.rounds):
            for sides, processes in ((one, both[:1]), (two, both)):
                sides.append(await _round(stack, load, processes, wanted(), name != "book"))
        measured.append(Replicas(name, Side.median(one), Side.median(two)))
    return measured


def _ready(load: Load) -> int:
    return _MOST_PER_SECOND * load.seconds


async def _round(
    stack: Stack,
    load: Load,
    processes: Sequence[ServiceProcess],
    requests: list[bytes],
    repeatable: bool,
    connections: int = 32,
) -> Side:
    await stack.settled()
    before = sum(process.cpu_seconds for process in processes)
    report = await sent(
        Plan(
            ports=[process.port for process in processes],
            requests=requests,
            repeatable=repeatable,
            connections=connections,
            seconds=load.seconds,
        )
    )
    used = sum(process.cpu_seconds for process in processes) - before
    return Side(report.per_second, median(report.seconds) * 1000, used / report.sent * 1e6)
