"""The present schedules of doctors. A statement reads only a schedule's version; the rest is read once a version."""

from datetime import datetime
from uuid import UUID

from services.booking.availability.repository import find_schedule
from services.booking.availability.schedules import Schedule
from services.kit.postgres.database import Connection

_CACHE_SIZE = 20_000


class ScheduleVersions:
    def __init__(self) -> None:
        self._known: dict[UUID, Schedule] = {}

    async def get(
        self, connection: Connection, doctor_id: UUID, version: int | None, updated_at: datetime | None
    ) -> Schedule | None:
        """Return the schedule of that version, which a statement on the same connection has just read, if any.

        A version's content never changes. Its time is compared, too, because a restored backup numbers them again.
        """
        if version is None:
            return None
        known = self._known.get(doctor_id)
        if known is not None and (known.version, known.updated_at) == (version, updated_at):
            return known
        found = await find_schedule(connection, doctor_id)
        if found is not None:
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            self._known[doctor_id] = found
        return found
