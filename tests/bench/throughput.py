"""Requests per second: beside a bare handler and pgbench, on databases of three sizes, by one and two replicas."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from tests.bench import pgbench
from tests.bench.client import Plan, sent
from tests.bench.stack import Stack
from tests.support.collector import Collector, collecting
from tests.support.process import ServiceProcess

_TRACED_ROUNDS = 3  # times as many as of other comparisons, because the difference is a few per cent
_MOST_PER_SECOND = 4000  # prepared bookings; a machine that is faster ends its round earlier


class Load(NamedTuple):
    """`rounds` of `seconds` each. The sides take turns, so that a noisy machine disturbs all of them alike."""

    rounds: int
    seconds: int


class Side(NamedTuple):
    """One side of a comparison. The processor time is that of the server process, without the database."""

    per_second: float
    p50_ms: float
    cpu_microseconds: float

    @classmethod
    def median(cls, rounds: Sequence["Side"]) -> "Side":
        return cls(*(median(values) for values in zip(*rounds, strict=True)))


class Route(NamedTuple):
    """`to_bare` and `to_pgbench` are the medians of the ratios of each round."""

    name: str
    ours: Side
    bare: Side
    pgbench: float | None
    to_bare: float
    to_pgbench: float | None


class _Subject(NamedTuple):
    name: str
    service: str
    requests: Callable[[], list[bytes]]
    script: tuple[str, str] | None  # a database's URL and the script that pgbench runs there
    connections: int = 32


async def beside_bare_and_pgbench(stack: Stack, load: Load) -> list[Route]:
    requests = stack.requests
    subjects = [
        _Subject("get a doctor", "auth", requests.get_doctor, (stack.auth_url, pgbench.GET_A_DOCTOR)),
        _Subject("list 50 doctors", "auth", requests.list_doctors, (stack.auth_url, pgbench.LIST_DOCTORS)),
        _Subject(
            "list 20 appointments",
            "booking",
            requests.list_appointments,
            (stack.pgbench_url, pgbench.LIST_APPOINTMENTS),
        ),
        _Subject(
            "book", "booking", lambda: requests.bookings(_number_of_bookings(load)), (stack.pgbench_url, pgbench.BOOK)
        ),
        # More clients would wait for a core longer than the service allows.
        _Subject("log in", "auth", requests.logins, None, connections=8),
    ]
    return [await _route(stack, load, subject) for subject in subjects]


async def _route(stack: Stack, load: Load, subject: _Subject) -> Route:
    ours, bare, pgbench_rates = list[Side](), list[Side](), list[float]()
    for _ in range(load.rounds):
        for sides, server in ((ours, subject.service), (bare, "bare")):
            processes, requests = stack.processes(server), subject.requests()
            sides.append(await _round(stack, load, processes, requests, subject.name != "book", subject.connections))
        if subject.script is not None:
            pgbench_rates.append(await pgbench.transactions_per_second(*subject.script, load.seconds))
    return Route(
        subject.name,
        Side.median(ours),
        Side.median(bare),
        median(pgbench_rates) if pgbench_rates else None,
        median(side.per_second / other.per_second for side, other in zip(ours, bare, strict=True)),
        median(side.per_second / rate for side, rate in zip(ours, pgbench_rates, strict=True))
        if pgbench_rates
        else None,
    )


class Growth(NamedTuple):
    """`sides` by the number of appointments in the database."""

    name: str
    sides: dict[int, Side]

    @property
    def factor(self) -> float:
        """Return how many times longer a request takes in the largest database than in the smallest."""
        return self.sides[min(self.sides)].per_second / self.sides[max(self.sides)].per_second


async def as_it_grows(stack: Stack, load: Load) -> list[Growth]:
    requests = stack.requests
    asked = [
        ("list 20 appointments", requests.list_appointments),
        ("list 20 completed appointments", requests.list_completed),
        ("book", lambda: requests.bookings(_number_of_bookings(load))),
    ]
    grown = []
    async with stack.booking_of_every_size() as processes:
        for name, make_requests in asked:
            sides: dict[int, list[Side]] = {size: [] for size in processes}
            for _ in range(load.rounds):
                for size, process in processes.items():
                    sides[size].append(await _round(stack, load, [process], make_requests(), name != "book"))
            grown.append(Growth(name, {size: Side.median(rounds) for size, rounds in sides.items()}))
    return grown


class Replicas(NamedTuple):
    name: str
    one: Side
    two: Side


async def by_replicas(stack: Stack, load: Load) -> list[Replicas]:
    """Compare one replica with two; two of each service must run."""
    requests = stack.requests
    asked = [
        ("get a doctor", "auth", requests.get_doctor),
        ("list 20 appointments", "booking", requests.list_appointments),
        ("book", "booking", lambda: requests.bookings(_number_of_bookings(load))),
    ]
    measured = []
    for name, service, make_requests in asked:
        both = stack.processes(service)
        one, two = list[Side](), list[Side]()
        for _ in range(load.rounds):
            for sides, processes in ((one, both[:1]), (two, both)):
                sides.append(await _round(stack, load, processes, make_requests(), name != "book"))
        measured.append(Replicas(name, Side.median(one), Side.median(two)))
    return measured


class Traced(NamedTuple):
    """`ratio` compares the least processor time of each side.

    Other work on the machine only ever adds to a round's, by up to a fifth. Medians of rounds differed by a tenth
    between two replicas that were the same.
    """

    name: str
    without: Side
    traced: Side
    ratio: float


async def with_traces(stack: Stack, load: Load) -> list[Traced]:
    """Compare a replica without traces with one that records every tenth; one replica of each service must run."""
    requests = stack.requests
    asked = [
        ("get a doctor", "auth", requests.get_doctor),
        ("list 20 appointments", "booking", requests.list_appointments),
        ("book", "booking", lambda: requests.bookings(_number_of_bookings(load))),
    ]
    measured = []
    with collecting(Collector()) as url:
        # Sent within a round, so that the round pays for it.
        sampled = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
        await stack.add_replicas(
            "auth", "booking", OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_BSP_SCHEDULE_DELAY="1000", **sampled
        )
        for name, service, make_requests in asked:
            both = [([process], list[Side]()) for process in stack.processes(service)]
            for _ in range(_TRACED_ROUNDS * load.rounds):
                for processes, sides in both:
                    sides.append(await _round(stack, load, processes, make_requests(), name != "book"))
                both.reverse()
            (_, one), (_, other) = sorted(both, key=lambda pair: stack.processes(service).index(pair[0][0]))
            ratio = min(side.cpu_microseconds for side in other) / min(side.cpu_microseconds for side in one)
            measured.append(Traced(name, Side.median(one), Side.median(other), ratio))
        for service in ("auth", "booking"):
            stack.remove_replicas(service)
    return measured


def _number_of_bookings(load: Load) -> int:
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
