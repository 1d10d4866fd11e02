from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import NamedTuple
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from services.booking.availability.conflicts import HoursChange, OnConflict, Settle
from services.booking.availability.repository import find_exceptions, find_schedule, get_situation
from services.booking.availability.schedules import Schedule, always_open
from services.booking.availability.service import refuse_others
from services.booking.directory.service import Directory
from services.booking.errors import TooManyExceptions
from services.booking.idempotency import Answer, RequestKey, answer_once
from services.booking.schedule_exceptions import repository
from services.booking.schedule_exceptions.rules import (
    refuse_out_of_range,
    span_of,
    wire_times,
    with_exception,
    without_extra,
)
from services.booking.schedule_exceptions.schemas import ExceptionCreate, ScheduleException
from services.booking.time.locks import lock_time, time_locks
from services.contracts.enums import Role
from services.kit.auth import Principal
from services.kit.errors import NotFound
from services.kit.postgres.database import Connection, Database
from services.kit.quotas import Quota
from services.kit.zones import zone

MOST = 500
_NOT_YET = Answer(status=0, body=b"", stored=True)  # nothing to store: there is more to settle in another transaction


class Situation(NamedTuple):
    """A doctor's hours under the lock, and the last revision of the exceptions."""

    now: datetime
    schedule: Schedule
    revision: int


class ScheduleExceptionService:
    def __init__(
        self,
        database: Database,
        directory: Directory,
        writes: Quota,
        settle: Settle,
        events_committed: Callable[[], None],
    ) -> None:
        self._database, self._directory, self._writes = database, directory, writes
        self._settle, self._events_committed = settle, events_committed

    async def add(
        self,
        principal: Principal,
        doctor_id: UUID,
        wanted: ExceptionCreate,
        key: RequestKey | None,
        on_conflict: OnConflict | None,
    ) -> Answer:
        """Return the answer to this request, or to the first one with its key."""
        refuse_others(principal, doctor_id)
        span = span_of(wanted)
        self._take_quota(principal)
        await self._directory.ensure_known(doctor_id)

        async def create(connection: Connection) -> Answer:
            now, before, revision = await self._situation(connection, principal, doctor_id)
            refuse_out_of_range(span, now, zone(before.time_zone))
            if len(before.exceptions.off) + len(before.exceptions.extra) >= MOST:
                raise TooManyExceptions
            if wanted.kind == "OFF":
                after = before._replace(exceptions=with_exception(before.exceptions, wanted.kind, span))
                change = HoursChange(before, after, span)
                if not await self._settle(connection, principal, change, on_conflict):
                    return _NOT_YET
            exception = ScheduleException(
                id=uuid7(),
                doctor_id=doctor_id,
                kind=wanted.kind,
                reason=wanted.reason,
                created_at=now,
                **wire_times(span),
            )
            await repository.add(connection, exception, span, revision + 1, principal)
            return Answer(
                status=201,
                location=f"/api/availability/{doctor_id}/exceptions/{exception.id}",
                body=msgspec.json.encode(exception),
                people=[doctor_id],
            )

        async def work(connection: Connection) -> Answer:
            locks = time_locks(doctor_id=doctor_id)
            return await answer_once(connection, key, partial(create, connection), locks=locks)

        while (answer := await self._database.transact(work)) is _NOT_YET:
            pass
        self._events_committed()
        return answer

    async def remove(self, principal: Principal, doctor_id: UUID, id: UUID, on_conflict: OnConflict | None) -> None:
        refuse_others(principal, doctor_id)
        self._take_quota(principal)
        await self._directory.ensure_known(doctor_id)

        async def work(connection: Connection) -> bool:
            await lock_time(connection, doctor_id=doctor_id)
            now, before, revision = await self._situation(connection, principal, doctor_id)
            exception = await repository.find(connection, doctor_id, id)
            if exception is None:
                raise NotFound
            if exception.kind == "EXTRA":
                after = before._replace(exceptions=without_extra(before.exceptions, exception.span))
                if not await self._settle(connection, principal, HoursChange(before, after), on_conflict):
                    return False
            await repository.remove(connection, doctor_id, id, revision + 1, now, principal)
            return True

        while not await self._database.transact(work):
            pass
        self._events_committed()

    async def _situation(self, connection: Connection, principal: Principal, doctor_id: UUID) -> Situation:
        now, time_zone = await get_situation(connection, principal, doctor_id)
        revision, _, exceptions = await find_exceptions(connection, doctor_id)
        schedule = await find_schedule(connection, doctor_id) or always_open(doctor_id, time_zone)
        return Situation(now, schedule._replace(exceptions=exceptions), revision)

    def _take_quota(self, principal: Principal) -> None:
        if principal.role != Role.ADMIN:
            self._writes.take(principal.id)
