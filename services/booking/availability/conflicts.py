"""What a change of a doctor's hours means for appointments, which this package knows nothing of."""

from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from services.booking.availability.schedules import Schedule, WallSpan
from services.kit.auth import Principal
from services.kit.postgres.database import Connection

OnConflict = Literal["keep", "cancel"]


class HoursChange(NamedTuple):
    """A doctor's hours before and after a change, and the leave if that is what it adds."""

    before: Schedule
    after: Schedule
    leave: WallSpan | None = None


# Settles what becomes of the appointments that a change leaves outside the hours; under the doctor's lock, and before
# the change is written. False asks for a commit, and for another call in a new transaction.
Settle = Callable[[Connection, Principal, HoursChange, OnConflict | None], Awaitable[bool]]
