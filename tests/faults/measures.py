"""Numbers that several rows derive from what clients saw."""

from collections.abc import Sequence
from statistics import quantiles

from tests.faults.ledger import Operation
from tests.faults.run import Run


def p99(seconds: Sequence[float]) -> float:
    return quantiles(seconds, n=100, method="inclusive")[98] if len(seconds) > 1 else 0.0


def require_service(run: Run, operations: list[Operation]) -> None:
    """Require that booking refused nothing from the first fault on, because it does not need what the fault took.

    A 503 would come from one of its own time limits of about a second.
    """
    since = run.faults[0].began_at
    refused = [reply for one in operations for reply in one.replies if reply.status == 503 and reply.sent_at >= since]
    run.within(not refused, f"{len(refused)} answers of booking were 503: {refused[:1]}")
