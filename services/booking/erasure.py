"""Erasure of a user: names, typed texts and stored answers go; ids, times and the history of what was done stay."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.booking.appointments.system_cancellations import CODES, SystemCancellations
from services.booking.dead_letters.repository import DeadLetterRepository
from services.booking.holds.repository import release_all
from services.booking.idempotency import forget_answers
from services.booking.models.appointments import appointments
from services.booking.schedule_exceptions.repository import forget_reasons
from services.booking.time.locks import lock_time
from services.booking.time.obstacles import PATIENT_ID, param
from services.contracts.enums import Role
from services.contracts.events import UserState
from services.kit.postgres.database import Connection, Database, Statement

# Small enough that a batch ends well within the statement time-out, however much a user has left behind.
BATCH = 500
_NIL = UUID(int=0)
_FIRST = datetime(1, 1, 2, tzinfo=UTC)


class Erasure:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._cancellations, self._dead_letters = SystemCancellations(database), DeadLetterRepository(database)

    async def forget(self, user: UserState) -> None:
        """Forget a user whom the projection already shows as erased. Repeating it has no further effect."""
        if user.role in (Role.DOCTOR, Role.PATIENT):
            await self._release_holds(user)
        if user.role is Role.DOCTOR:
            await self._cancellations.cancel_upcoming_of_doctor(user.id)
            await self._forget_all(forget_reasons, user.id)
        elif user.role is Role.PATIENT:
            await self._cancellations.cancel_upcoming_of_patient(user.id)
            await self._forget_each(FORGET_TEXTS, after=(_FIRST, _NIL), patient_id=user.id, codes=CODES)
            await self._forget_each(FORGET_HISTORY, after=(_NIL, 0), patient_id=user.id)
        await self._forget_all(forget_answers, user.id)
        await self._dead_letters.forget(user.id)

    async def _forget_all(self, forget: Callable[[Connection, UUID, int], Awaitable[int]], user_id: UUID) -> None:
        forgotten = BATCH
        while forgotten == BATCH:
            async with self._database.connection() as connection:
                forgotten = await forget(connection, user_id, BATCH)

    async def _release_holds(self, user: UserState) -> None:
        async def work(connection: Connection) -> None:
            await lock_time(connection, **{f"{user.role.lower()}_id": user.id})
            await release_all(connection, user.role, user.id)

        await self._database.transact(work)

    async def _forget_each(self, statement: Statement, *, after: tuple[Any, Any], **values: Any) -> None:
        """Execute a statement that takes a batch of rows after a position and returns that of the last of them."""
        position: Any = after
        while position:
            first, second = position
            position = await self._database.fetchrow(statement, first=first, second=second, limit=BATCH, **values)


# Everything that was typed about a patient's appointments, by either party. The version stays: nothing happened to the
# appointments, and their events never held these texts.
_start, _id, _reason = appointments.c.starts_at, appointments.c.id, appointments.c.cancellation_reason
_position = sa.tuple_(param("first", _start), param("second", _id))
_LIMIT = sa.bindparam("limit", type_=sa.BigInteger)
_batch = (
    sa.select(_start, _id)
    .where(appointments.c.patient_id == PATIENT_ID, sa.tuple_(_start, _id) > _position)
    .order_by(_start, _id)
    .limit(_LIMIT)
    .cte("batch")
)
_TYPED = sa.and_(_reason.is_not(None), _reason != sa.func.all(sa.bindparam("codes", type_=sa.ARRAY(sa.Text))))
_forgotten = (
    sa.update(appointments)
    .where(_id == _batch.c.id, sa.or_(appointments.c.notes.is_not(None), _TYPED))
    .values(notes=sa.null(), cancellation_reason=sa.case((_TYPED, sa.null()), else_=_reason))
    .returning(_id)
    .cte("forgotten")
)
FORGET_TEXTS = Statement(
    sa.select(_batch.c.starts_at, _batch.c.id)
    .order_by(_batch.c.starts_at.desc(), _batch.c.id.desc())
    .limit(sa.literal_column("1"))
    .add_cte(_forgotten)
)
_next = sa.func.forget_history(
    PATIENT_ID,
    sa.bindparam("first", type_=sa.Uuid),
    sa.bindparam("second", type_=sa.Integer),
    sa.bindparam("limit", type_=sa.Integer),
).table_valued("appointment_id", "version")
FORGET_HISTORY = Statement(sa.select(_next.c.appointment_id, _next.c.version))
