"""The present schedules of doctors. A statement reads only versions; the rest is read once a version.

A doctor's weekly hours and exceptions have a version each, so that a doctor without hours can have exceptions, and a
statement that reads the one need not be in a transaction with the one that reads the other.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.booking.availability.public_holidays import is_region
from services.booking.availability.repository import find_exceptions, find_schedule
from services.booking.availability.schedules import Exceptions, Schedule, always_open
from services.kit.postgres.database import Connection

_CACHE_SIZE = 20_000


class ScheduleVersion(NamedTuple):
    """What a statement has read of a doctor; None where there is no schedule, or never was an exception."""

    version: int | None
    updated_at: datetime | None
    exceptions_revision: int | None
    exceptions_changed_at: datetime | None
    time_zone: str | None


class ScheduleVersions:
    def __init__(self) -> None:
        self._schedules: dict[UUID, Schedule] = {}
        self._exceptions: dict[UUID, tuple[int, datetime, Exceptions]] = {}

    async def get(self, connection: Connection, doctor_id: UUID, wanted: ScheduleVersion) -> Schedule | None:
        """Return the schedule of that version, which a statement on the same connection has just read, if any.

        A version's content never changes. Its time is compared, too, because a restored backup numbers them again.
        """
        exceptions = await self._exceptions_of(connection, doctor_id, wanted)
        schedule = await self._schedule_of(connection, doctor_id, wanted)
        if schedule is not None:
            return schedule._replace(exceptions=exceptions)
        if exceptions == Exceptions() or wanted.time_zone is None:
            return None
        return always_open(doctor_id, wanted.time_zone)._replace(exceptions=exceptions)

    async def _schedule_of(self, connection: Connection, doctor_id: UUID, wanted: ScheduleVersion) -> Schedule | None:
        if wanted.version is None:
            return None
        known = self._schedules.get(doctor_id)
        if known is not None and (known.version, known.updated_at) == (wanted.version, wanted.updated_at):
            return known
        found = await find_schedule(connection, doctor_id)
        if found is not None:
            if found.public_holidays is not None:  # load the library now, and not while free times are computed
                await is_region(found.public_holidays)
            if len(self._schedules) >= _CACHE_SIZE:
                self._schedules.clear()
            self._schedules[doctor_id] = found
        return found

    async def _exceptions_of(self, connection: Connection, doctor_id: UUID, wanted: ScheduleVersion) -> Exceptions:
        if wanted.exceptions_revision is None:
            return Exceptions()
        known = self._exceptions.get(doctor_id)
        if known is not None and known[:2] == (wanted.exceptions_revision, wanted.exceptions_changed_at):
            return known[2]
        found = await find_exceptions(connection, doctor_id)
        if len(self._exceptions) >= _CACHE_SIZE:
            self._exceptions.clear()
        self._exceptions[doctor_id] = found
        return found[2]
