"""`python -m tests.bench.bare`: the same statements in bare Litestar handlers, to compare the services with.

No tokens, logs, metrics, locks, history, events or checks. A header names the caller.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import uvicorn
from argon2 import PasswordHasher
from litestar import Litestar, get, post
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter
from msgspec import UNSET
from uuid_utils.compat import uuid7

from services.auth.doctors.reads import GET_DOCTOR, PROFILE_NAMES
from services.auth.doctors.reads import list_statement as list_doctors_statement
from services.auth.sessions.schemas import Login
from services.auth.users.schemas import Doctor
from services.booking.appointments.reads import list_of
from services.booking.appointments.rows import appointment_of
from services.booking.appointments.schemas import Appointment, AppointmentCreate
from services.contracts.enums import AppointmentStatus, Role
from services.kit.http.paging import Page

_CONNECTIONS = 20  # as many as a service's pool has
_LIST = list_of(Role.PATIENT, frozenset())
_LIST_DOCTORS = list_doctors_statement("name", (), continued=False)
_INSERT = """
    INSERT INTO appointments (id, doctor_id, patient_id, status, during, blocked, overbooked, time_zone, wall_time,
                              tzdata_version, notes, version, created_at, updated_at)
    VALUES ($1, $2, $3, 'PENDING', tstzrange($4, $5), tstzrange($4, $5), false, 'UTC', $6, 'none', $7, 1, $8, $8)
    ON CONFLICT DO NOTHING RETURNING id
"""
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)

Caller = Annotated[UUID, HeaderParameter(name="X-Caller")]
Limit = Annotated[int, QueryParameter()]
_pools: dict[str, asyncpg.Pool] = {}


@get("/api/doctors/{doctor_id:uuid}")
async def get_doctor(doctor_id: FromPath[UUID], caller: Caller) -> Doctor:
    async with _pools["auth"].acquire() as connection:
        row = await GET_DOCTOR.fetchrow(connection, id=doctor_id, caller=caller, is_admin=False)
    if row is None:
        raise NotFoundException
    return Doctor(**{**row, "email": UNSET, "email_verified_at": UNSET, "phone": UNSET})


@get("/api/doctors")
async def list_doctors(limit: Limit) -> Page[Doctor]:
    async with _pools["auth"].acquire() as connection:
        rows = await _LIST_DOCTORS.fetch(connection, limit=limit + 1)
    items = [Doctor(**{name: row[name] for name in PROFILE_NAMES}) for row in rows[:limit]]
    return Page(items=items, next_cursor=None)


@get("/api/appointments")
async def list_appointments(caller: Caller, limit: Limit) -> Page[Appointment]:
    async with _pools["booking"].acquire() as connection:
        rows = await _LIST.fetch(connection, caller=caller, limit=limit + 1)
    return Page(items=[appointment_of(row) for row in rows[:limit]], next_cursor=None)


@post("/api/appointments")
async def book(data: JSONBody[AppointmentCreate], caller: Caller) -> Appointment:
    now, minutes = datetime.now(UTC), 30 if data.duration_minutes is UNSET else data.duration_minutes
    appointment = Appointment(
        id=uuid7(),
        patient_id=caller,
        doctor_id=data.doctor_id,
        patient_name=None,
        doctor_name=None,
        starts_at=data.starts_at,
        ends_at=data.starts_at + timedelta(minutes=minutes),
        duration_minutes=minutes,
        time_zone="UTC",
        local_starts_at=data.starts_at.replace(tzinfo=None),
        status=AppointmentStatus.PENDING,
        notes=data.notes,
        overbooked=False,
        cancellation_reason=None,
        version=1,
        created_at=now,
        updated_at=now,
    )
    times = (appointment.starts_at, appointment.ends_at, appointment.local_starts_at)
    values = (appointment.id, appointment.doctor_id, appointment.patient_id, *times, appointment.notes, now)
    async with _pools["booking"].acquire() as connection, connection.transaction():
        if await connection.fetchval(_INSERT, *values) is None:
            raise RuntimeError("the slot was not free")
    return appointment


@post("/api/patients/login", status_code=200)
async def log_in(data: JSONBody[Login]) -> dict[str, str]:
    async with _pools["auth"].acquire() as connection:
        row = await connection.fetchrow("SELECT id, password_hash FROM users WHERE lower(email) = $1", data.email)
    if row is None:
        raise NotFoundException
    await asyncio.to_thread(_HASHER.verify, row["password_hash"], data.password)
    return {"id": str(row["id"])}


async def _keep_session(_: Any) -> None:
    """Replace asyncpg's own reset, which would be a second round trip for every request."""


@asynccontextmanager
async def _lifespan(_: Litestar) -> AsyncIterator[None]:
    options: dict[str, Any] = {"min_size": 0, "max_size": _CONNECTIONS, "reset": _keep_session}
    async with (
        asyncpg.create_pool(os.environ["AUTH_DATABASE_URL"], **options) as _pools["auth"],
        asyncpg.create_pool(os.environ["BOOKING_DATABASE_URL"], **options) as _pools["booking"],
    ):
        yield


ROUTES = [get_doctor, list_doctors, list_appointments, book, log_in]

if __name__ == "__main__":
    uvicorn.run(
        Litestar(ROUTES, lifespan=[_lifespan], openapi_config=None),
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
    )
