"""Cancellations by the system: of unanswered requests, and of the appointments of suspended and erased users."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import structlog
from msgspec.structs import replace

from services.booking.appointments import repository
from services.booking.appointments.changes import SYSTEM, Actor, Change
from services.booking.appointments.repository import Locked
from services.booking.time.locks import lock_time
from services.contracts.enums import AppointmentStatus, Role
from services.kit.postgres.database import Connection, Database

log = structlog.get_logger("system_cancellations")

UNANSWERED = "unanswered"
DOCTOR_UNAVAILABLE = "doctor_unavailable"
PATIENT_ERASED = "patient_erased"
CODES = (UNANSWERED, DOCTOR_UNAVAILABLE, PATIENT_ERASED)
# Small enough that a batch ends well within the statement time-out.
BATCH = 100


class SystemCancellations:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def cancel_unanswered(self) -> None:
        """Cancel requests whose start has passed. Replicas may do so at once: each takes rows that no other holds."""

        async def find(connection: Connection) -> Sequence[Locked]:
            return await repository.unanswered_for_update(connection, BATCH)

        await self._cancel_all(find, UNANSWERED)

    async def cancel_upcoming_of_doctor(self, doctor_id: UUID) -> None:
        """Cancel what a doctor has before them, once the projection says that they are suspended or erased.

        A booking in progress holds the doctor's lock and is waited for; a later one reads the projection and fails.
        """

        async def find(connection: Connection) -> Sequence[Locked]:
            await lock_time(connection, doctor_id=doctor_id)
            return await repository.future_for_update(connection, Role.DOCTOR, doctor_id, BATCH)

        await self._cancel_all(find, DOCTOR_UNAVAILABLE)

    async def cancel_upcoming_of_patient(self, patient_id: UUID) -> None:
        """Cancel what a patient has before them, once the projection says that they are erased; see above."""

        async def find(connection: Connection) -> Sequence[Locked]:
            await lock_time(connection, patient_id=patient_id)
            return await repository.future_for_update(connection, Role.PATIENT, patient_id, BATCH)

        await self._cancel_all(find, PATIENT_ERASED)

    async def _cancel_all(self, find: Callable[[Connection], Awaitable[Sequence[Locked]]], reason: str) -> None:
        async def work(connection: Connection) -> int:
            found = await find(connection)
            await repository.write_all(connection, [cancelled(locked, reason) for locked in found])
            return len(found)

        count = BATCH
        while count == BATCH:
            count = await self._database.transact(work)
            if count:
                log.info("appointments cancelled", count=count, reason=reason)


def cancelled(locked: Locked, reason: str, actor: Actor = SYSTEM) -> Change:
    before = locked.appointment
    after = replace(
        before,
        status=AppointmentStatus.CANCELLED,
        cancellation_reason=reason,
        version=before.version + 1,
        updated_at=locked.now,
    )
    return Change(before, after, actor, reason)
