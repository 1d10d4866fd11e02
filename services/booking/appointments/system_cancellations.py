"""Changes that no person asks for: requests nobody answered, and the visits of who was suspended or erased."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import structlog
from msgspec.structs import replace

from services.booking.appointments.changes import SYSTEM, Change
from services.booking.appointments.repository import AppointmentRepository, Locked
from services.booking.time.locks import lock_doctor, lock_patient
from services.contracts.enums import AppointmentStatus, Role
from services.contracts.events import UserState
from services.kit.postgres.database import Connection, Database

log = structlog.get_logger("upkeep")

UNANSWERED = "unanswered"
DOCTOR_UNAVAILABLE = "doctor_unavailable"
PATIENT_ERASED = "patient_erased"
_CODES = (UNANSWERED, DOCTOR_UNAVAILABLE, PATIENT_ERASED)
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
            return await self._repository.future_for_update(connection, Role.DOCTOR, doctor_id, _BATCH)

        await self._cancel_all(find, DOCTOR_UNAVAILABLE)

    async def forget(self, user: UserState) -> None:
        """Cancels the visits to come of somebody who is known to be erased by now, and what was typed about a patient.

        As above, what was being booked meanwhile is waited for.
        """
        if user.role is Role.DOCTOR:
            await self.cancel_visits_of(user.id)
        elif user.role is Role.PATIENT:
            await self._forget_patient(user.id)

        async def work(connection: Connection) -> None:
            await self._repository.forget_answers(connection, user.id)

        await self._database.transact(work)

    async def _forget_patient(self, patient_id: UUID) -> None:
        async def find(connection: Connection) -> Sequence[Locked]:
            await lock_patient(connection, patient_id)
            return await self._repository.future_for_update(connection, Role.PATIENT, patient_id, _BATCH)

        async def work(connection: Connection) -> None:
            await self._repository.forget_texts(connection, patient_id, _CODES)

        await self._cancel_all(find, PATIENT_ERASED)
        await self._database.transact(work)

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
