"""One row of the matrix, and what comes of it."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from tests.faults.checks.evidence import Finding

if TYPE_CHECKING:
    from tests.faults.run import Run

Play = Callable[["Run"], Awaitable[None]]


class Row(NamedTuple):
    """A fault under load, which `play` causes.

    `cuts`: the fault may leave a client without an answer; only then is that no finding.
    """

    name: str
    title: str
    play: Play
    cuts: bool


def row(name: str, title: str, *, cuts: bool = False) -> Callable[[Play], Row]:
    """Make a row of the function that causes its fault."""

    def made(play: Play) -> Row:
        return Row(name, title, play, cuts)

    return made


class Length(NamedTuple):
    """How long the load lasts and how many bookings a second it begins. `long`: at least ten faults of a kind."""

    seconds: float
    per_second: float
    long: bool
    quiet_seconds: float = 120.0


class Fault(NamedTuple):
    """Times are by the machine's clock, as in the ledger."""

    name: str
    began_at: float
    ended_at: float


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
