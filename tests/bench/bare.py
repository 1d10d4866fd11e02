"""`python -m tests.bench.bare`: the same statements behind Litestar and nothing else, to compare the services with.

No tokens, logs, metrics, locks, history, events or checks. The caller is whom the header names.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import uvicorn
from litestar import Litestar, get, post
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter
from msgspec import UNSET
from uuid_utils.compat import uuid7

from services.auth.accounts.repository import GET_DOCTOR
from services.auth.accounts.schemas import Doctor
from services.booking.appointments import statements
from services.booking.appointments.schemas import Appointment, AppointmentCreate
from services.contracts.enums import AppointmentStatus, Role
from services.kit.schema import Page

_CONNECTIONS = 20  # as many as a service's pool has
_LIST = statements.list_of(Role.PATIENT, frozenset())
_INSERT = """
    INSERT INTO appointments (id, doctor_id, patient_id, status, during, blocked, overbooked, time_zone, wall_time,
                              tzdata_version, notes, version, created_at, updated_at)
    VALUES ($1, $2, $3, 'PENDING', tstzrange($4, $5), tstzrange($4, $5), false, 'UTC', $6, 'none', $7, 1, $8, $8)
    ON CONFLICT DO NOTHING RETURNING id
"""

Caller = Annotated[UUID, HeaderParameter(name="X-Caller")]
_pools: dict[str, asyncpg.Pool] = {}


@get("/api/doctors/{doctor_id:uuid}")
async def get_doctor(doctor_id: FromPath[UUID], caller: Caller) -> Doctor:
    async with _pools["auth"].acquire() as connection:
        row = await GET_DOCTOR.fetchrow(connection, id=doctor_id, caller=caller, is_admin=False)
    if row is None:
        raise NotFoundException
    return Doctor(**{**row, "email": UNSET, "phone": UNSET})


@get("/api/appointments")
async def list_appointments(caller: Caller, limit: Annotated[int, QueryParameter()]) -> Page[Appointment]:
    async with _pools["booking"].acquire() as connection:
        rows = await _LIST.fetch(connection, caller=caller, limit=limit + 1)
    return Page(items=[Appointment(**row) for row in rows[:limit]], next_cursor=None)


@post("/api/appointments")
async def book(data: JSONBody[AppointmentCreate], caller: Caller) -> Appointment:
    now = datetime.now(UTC)
    visit = Appointment(
        id=uuid7(),
        patient_id=caller,
        doctor_id=data.doctor_id,
        patient_name=None,
        doctor_name=None,
        date_time=data.date_time,
        ends_at=data.date_time + timedelta(minutes=data.duration_minutes),
        duration_minutes=data.duration_minutes,
        time_zone="UTC",
        local_date_time=data.date_time.replace(tzinfo=None),
        status=AppointmentStatus.PENDING,
        notes=data.notes,
        overbooked=False,
        cancellation_reason=None,
        version=1,
        created_at=now,
        updated_at=now,
    )
    times = (visit.date_time, visit.ends_at, visit.local_date_time)
    values = (visit.id, visit.doctor_id, visit.patient_id, *times, visit.notes, now)
    async with _pools["booking"].acquire() as connection, connection.transaction():
        if await connection.fetchval(_INSERT, *values) is None:
            raise RuntimeError("the slot was not free")
    return visit


async def _keep_session(_: Any) -> None:
    """As the services' pools do: asyncpg's own reset would be a second round trip for every request."""


@asynccontextmanager
async def _lifespan(_: Litestar) -> AsyncIterator[None]:
    options: dict[str, Any] = {"min_size": 0, "max_size": _CONNECTIONS, "reset": _keep_session}
    async with (
        asyncpg.create_pool(os.environ["AUTH_DATABASE_URL"], **options) as _pools["auth"],
        asyncpg.create_pool(os.environ["BOOKING_DATABASE_URL"], **options) as _pools["booking"],
    ):
        yield


if __name__ == "__main__":
    app = Litestar([get_doctor, list_appointments, book], lifespan=[_lifespan], openapi_config=None)
    port = int(os.environ["PORT"])
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning")
