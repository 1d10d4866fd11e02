"""Claiming time: a transaction under locks, with the exclusion constraints as the backstop."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter

from services.booking.errors import PatientBusy, SlotTaken
from services.kit.errors import ProblemError
from services.kit.postgres.database import Connection, Database
from services.kit.postgres.failures import sqlstate

T = TypeVar("T")

_EXCLUSION_VIOLATION = "23P01"


class MissedConflict(SlotTaken):
    """A constraint refused time that the obstacles had shown as free."""


class TimeClaims:
    def __init__(self, database: Database, registry: CollectorRegistry) -> None:
        self._database = database
        self._missed = Counter(
            "booking_unseen_conflicts_total",
            "Overlaps that only a constraint refused. Stays 0: anything else is a writer that does not take the locks",
            registry=registry,
        )

    async def claim(
        self,
        work: Callable[[Connection], Awaitable[T]],
        *,
        before: Callable[[Connection], Awaitable[T | None]] | None = None,
    ) -> T:
        """Run `work` in a transaction, after `before` outside of it as in `Database.transact`.

        Under the locks `work` finds every obstacle, so the constraints have nothing left to refuse. When one of them
        refuses anyway, `work` runs once more: by then the row that it missed is committed, and is named.
        """
        refusal: ProblemError = SlotTaken()
        for _ in range(2):
            try:
                return await self._database.transact(work, before=before)
            except (SlotTaken, PatientBusy) as error:
                missed = isinstance(error, MissedConflict) or sqlstate(error.__cause__) == _EXCLUSION_VIOLATION
                if not missed:
                    raise
                refusal = error
            self._missed.inc()
        raise refusal
