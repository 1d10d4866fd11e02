"""Erasure of a user: names, typed texts and stored answers go; ids, times and the history of what was done stay."""

import sqlalchemy as sa

from services.booking.appointments.system_cancellations import CODES, SystemCancellations
from services.booking.dead_letters.repository import DeadLetterRepository
from services.booking.idempotency import forget_answers
from services.booking.models import appointments
from services.booking.time.obstacles import PATIENT_ID
from services.contracts.enums import Role
from services.contracts.events import UserState
from services.kit.postgres.database import Connection, Database, Statement


class Erasure:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._cancellations, self._dead_letters = SystemCancellations(database), DeadLetterRepository(database)

    async def forget(self, user: UserState) -> None:
        """Forget a user whom the projection already shows as erased. Repeating it has no further effect."""
        if user.role is Role.DOCTOR:
            await self._cancellations.cancel_upcoming_of_doctor(user.id)
        elif user.role is Role.PATIENT:
            await self._cancellations.cancel_upcoming_of_patient(user.id)

        async def work(connection: Connection) -> None:
            if user.role is Role.PATIENT:
                await FORGET_TEXTS.execute(connection, patient_id=user.id, codes=CODES)
                await FORGET_HISTORY.execute(connection, patient_id=user.id)
            await forget_answers(connection, user.id)

        await self._database.transact(work)
        await self._dead_letters.forget(user.id)


# Everything that was typed about a patient's appointments, by either party. The version stays: nothing happened to the
# appointments, and their events never held these texts.
_TYPED = sa.and_(
    appointments.c.cancellation_reason.is_not(None),
    appointments.c.cancellation_reason != sa.func.all(sa.bindparam("codes", type_=sa.ARRAY(sa.Text))),
)
FORGET_TEXTS = Statement(
    sa.update(appointments)
    .where(appointments.c.patient_id == PATIENT_ID, sa.or_(appointments.c.notes.is_not(None), _TYPED))
    .values(notes=sa.null(), cancellation_reason=sa.case((_TYPED, sa.null()), else_=appointments.c.cancellation_reason))
)
FORGET_HISTORY = Statement(sa.select(sa.func.forget_typed_texts(PATIENT_ID)))
