from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, replace
from uuid_utils.compat import uuid7

from services.booking.appointment_types import repository
from services.booking.appointment_types.schemas import AppointmentType, AppointmentTypeCreate, AppointmentTypeUpdate
from services.booking.availability.repository import get_situation
from services.booking.availability.service import refuse_others
from services.booking.directory.service import Directory
from services.booking.errors import TooManyTypes, TypeNotFound
from services.booking.idempotency import Answer, RequestKey, answer_once
from services.booking.time.locks import lock_time, time_locks
from services.contracts.enums import AppointmentMode, Role
from services.kit.auth import Principal
from services.kit.errors import BadRequest, FieldError
from services.kit.http.preconditions import IfMatch
from services.kit.postgres.database import Connection, Database
from services.kit.quotas import Quota

T = TypeVar("T")

MOST = 50
_LAST_POSITION = 9999


class AppointmentTypeService:
    """Writes under the doctor's lock: a booking meets a type either before a change or after it."""

    def __init__(self, database: Database, directory: Directory, writes: Quota) -> None:
        self._database, self._directory, self._writes = database, directory, writes

    async def create(
        self, principal: Principal, doctor_id: UUID, wanted: AppointmentTypeCreate, key: RequestKey | None
    ) -> Answer:
        """Return the answer to this request, or to the first one with its key."""
        await self._admit(principal, doctor_id)

        async def work(connection: Connection) -> Answer:
            async def insert() -> Answer:
                now, existing = await _read(connection, principal, doctor_id)
                if len(existing) >= MOST:
                    raise TooManyTypes
                created = _new(doctor_id, wanted, existing, now)
                await repository.insert(connection, created, principal)
                return Answer(
                    status=201,
                    location=f"/api/availability/{doctor_id}/types/{created.id}",
                    etag=created.etag,
                    body=msgspec.json.encode(created),
                    people=[doctor_id],
                )

            return await answer_once(connection, key, insert, locks=time_locks(doctor_id=doctor_id))

        return await self._database.transact(work)

    async def change(
        self,
        principal: Principal,
        doctor_id: UUID,
        type_id: UUID,
        update: AppointmentTypeUpdate,
        condition: IfMatch,
    ) -> AppointmentType:
        """Return the type as it is afterwards. An update that changes nothing leaves its version alone."""

        async def work(connection: Connection, before: AppointmentType, now: datetime) -> AppointmentType:
            after = replace(before, **{name: value for name, value in asdict(update).items() if value is not UNSET})
            after = _checked(after)
            if after == before:
                return before
            after = replace(after, version=before.version + 1, updated_at=now)
            await repository.update(connection, after, principal)
            return after

        return await self._on_type(principal, doctor_id, type_id, condition, work)

    async def remove(
        self, principal: Principal, doctor_id: UUID, type_id: UUID, condition: IfMatch
    ) -> AppointmentType | None:
        """Delete a type, or deactivate and return it if it was ever booked."""

        async def work(connection: Connection, before: AppointmentType, now: datetime) -> AppointmentType | None:
            if await repository.delete_unbooked(connection, before, principal):
                return None
            if not before.active:
                return before
            after = replace(before, active=False, version=before.version + 1, updated_at=now)
            await repository.update(connection, after, principal)
            return after

        return await self._on_type(principal, doctor_id, type_id, condition, work)

    async def _on_type(
        self,
        principal: Principal,
        doctor_id: UUID,
        type_id: UUID,
        condition: IfMatch,
        decide: Callable[[Connection, AppointmentType, datetime], Awaitable[T]],
    ) -> T:
        await self._admit(principal, doctor_id)

        async def work(connection: Connection) -> T:
            await lock_time(connection, doctor_id=doctor_id)
            now, existing = await _read(connection, principal, doctor_id)
            before = next((one for one in existing if one.id == type_id), None)
            if before is None:
                raise TypeNotFound
            condition.check(before.etag)
            return await decide(connection, before, now)

        return await self._database.transact(work)

    async def _admit(self, principal: Principal, doctor_id: UUID) -> None:
        refuse_others(principal, doctor_id)
        if principal.role != Role.ADMIN:
            self._writes.take(principal.id)
        await self._directory.ensure_known(doctor_id)


async def _read(
    connection: Connection, principal: Principal, doctor_id: UUID
) -> tuple[datetime, Sequence[AppointmentType]]:
    now, _ = await get_situation(connection, principal, doctor_id)
    return now, await repository.list_of(connection, doctor_id)


def _new(
    doctor_id: UUID, wanted: AppointmentTypeCreate, existing: Sequence[AppointmentType], now: datetime
) -> AppointmentType:
    values = asdict(wanted)
    if wanted.position is None:
        values["position"] = min(max((one.position + 1 for one in existing), default=0), _LAST_POSITION)
    return _checked(
        AppointmentType(id=uuid7(), doctor_id=doctor_id, version=1, created_at=now, updated_at=now, **values)
    )


def _checked(one: AppointmentType) -> AppointmentType:
    """Return the type as it is stored; raise `BadRequest` if its fields do not go together."""
    if one.join_url_template is not None and one.mode != AppointmentMode.VIDEO:
        raise BadRequest(errors=[FieldError("joinUrlTemplate", "Only an appointment type with the mode VIDEO has one")])
    return one if one.price is None else replace(one, price=f"{Decimal(one.price):.2f}")
