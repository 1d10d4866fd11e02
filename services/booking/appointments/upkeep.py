"""Changes that no person asks for: requests nobody answered, and the visits of suspended doctors."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import structlog
from msgspec.structs import replace

from services.booking.appointments.changes import SYSTEM, Change
from services.booking.appointments.repository import AppointmentRepository, Locked
from services.booking.locks import lock_doctor
from services.contracts.enums import AppointmentStatus
from services.kit.database import Connection, Database

log = structlog.get_logger("upkeep")

UNANSWERED = "unanswered"
DOCTOR_UNAVAILABLE = "doctor_unavailable"
# Small enough that a batch ends well within the statement time-out.
_BATCH = 100


class Upkeep:
    def __init__(self, database: Database, repository: AppointmentRepository) -> None:
        self._database, self._repository = database, repository

    async def cancel_unanswered(self) -> None:
        """Every replica may do it at once: each takes rows that no other one has."""

        async def find(connection: Connection) -> Sequence[Locked]:
            return await self._repository.unanswered_for_update(connection, _BATCH)

        await self._cancel_all(find, UNANSWERED)

    async def cancel_visits_of(self, doctor_id: UUID) -> None:
        """The doctor is known to be suspended by now, so that nothing is booked behind it.

        What was being booked meanwhile holds the doctor's lock, and is waited for.
        """

        async def find(connection: Connection) -> Sequence[Locked]:
            await lock_doctor(connection, doctor_id)
            return await self._repository.future_of_doctor_for_update(connection, doctor_id, _BATCH)

        await self._cancel_all(find, DOCTOR_UNAVAILABLE)

    async def _cancel_all(self, find: Callable[[Connection], Awaitable[Sequence[Locked]]], reason: str) -> None:
        async def work(connection: Connection) -> int:
            found = await find(connection)
            await self._repository.write_all(connection, [_cancelled(locked, reason) for locked in found])
            return len(found)

        cancelled = _BATCH
        while cancelled == _BATCH:
            cancelled = await self._database.transact(work)
            if cancelled:
                log.info("appointments cancelled", count=cancelled, reason=reason)


def _cancelled(locked: Locked, reason: str) -> Change:
    visit = locked.visit
    after = replace(
        visit,
        status=AppointmentStatus.CANCELLED,
        cancellation_reason=reason,
        version=visit.version + 1,
        updated_at=locked.now,
    )
    return Change(visit, after, SYSTEM, reason)
