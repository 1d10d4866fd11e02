"""The users of a clinic, and their requests to the booking service."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg
import httpx
from msgspec.structs import replace
from redis.asyncio import Redis

from services.booking.settings import Settings
from services.contracts.enums import Role, UserStatus
from services.contracts.events import UserState
from services.kit.settings import load
from tests.support.auth_stub import INTERNAL_TOKEN, AuthStub
from tests.support.canary import NOTE, called
from tests.support.quotas import UNLIMITED
from tests.support.waiting import eventually

AUTH_TO_BOOKING = "auth-to-booking-token-of-the-tests-0123456789"
_days = count(2)


class Person(NamedTuple):
    id: UUID
    headers: dict[str, str]
    state: UserState


class Clinic:
    """Registers users with auth; booking learns of them by asking auth."""

    def __init__(self, auth: AuthStub) -> None:
        self._auth = auth

    def person(
        self,
        role: Role,
        status: UserStatus = UserStatus.ACTIVE,
        *,
        name: str = called("Somebody"),
        time_zone: str = "UTC",
        verified: bool = True,
    ) -> Person:
        registered = self._auth.register(role, name, time_zone=time_zone)
        user = replace(registered, status=status, email_verified=verified)
        self._auth.users[user.id] = user
        return Person(user.id, self._auth.bearer(user), user)

    def doctor(self, status: UserStatus = UserStatus.ACTIVE, *, time_zone: str = "Europe/Berlin") -> Person:
        return self.person(Role.DOCTOR, status, name=called("Ada"), time_zone=time_zone)

    def patient(self) -> Person:
        return self.person(Role.PATIENT, name=called("Bo"))

    def admin(self) -> Person:
        return self.person(Role.ADMIN)


def free_time() -> datetime:
    """Return a time that no earlier call has returned."""
    start = datetime.now(UTC) + timedelta(days=next(_days))
    return start.replace(hour=9, minute=0, second=0, microsecond=0)


def wire(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def request_for(doctor: Person, at: datetime | None = None, **more: Any) -> dict[str, Any]:
    return {"doctorId": str(doctor.id), "dateTime": wire(at or free_time()), "notes": NOTE, **more}


async def post(client: httpx.AsyncClient, person: Person, body: dict[str, Any]) -> httpx.Response:
    return await client.post("/api/appointments", json=body, headers=person.headers)


def assert_refused(answer: httpx.Response, status: int, code: str, path: str | None = None) -> dict[str, Any]:
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    if path is not None:
        assert [error["path"] for error in problem["errors"]] == [path], answer.text
    return problem


async def book(
    client: httpx.AsyncClient, patient: Person, doctor: Person, at: datetime | None = None, **more: Any
) -> dict[str, Any]:
    answer = await client.post("/api/appointments", json=request_for(doctor, at, **more), headers=patient.headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def change(
    client: httpx.AsyncClient,
    by: Person,
    appointment: dict[str, Any],
    *,
    if_match: str | None = None,
    **update: Any,
) -> httpx.Response:
    headers = by.headers | ({"If-Match": if_match} if if_match else {})
    return await client.patch(f"/api/appointments/{appointment['id']}", json=update, headers=headers)


async def changed(client: httpx.AsyncClient, by: Person, appointment: dict[str, Any], **update: Any) -> dict[str, Any]:
    answer = await change(client, by, appointment, **update)
    assert answer.status_code == 200, answer.text
    after: dict[str, Any] = answer.json()
    assert answer.headers["etag"] == f'"{after["version"]}"'
    return after


async def get(client: httpx.AsyncClient, person: Person, appointment: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"/api/appointments/{appointment['id']}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def history(client: httpx.AsyncClient, person: Person, appointment: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.get(f"/api/appointments/{appointment['id']}/history", headers=person.headers)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def environment(database_url: str, redis_url: str, auth: AuthStub) -> dict[str, str]:
    return {
        "BOOKING_DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "BOOKING_TO_AUTH_TOKEN": INTERNAL_TOKEN,
        "AUTH_TO_BOOKING_TOKEN": AUTH_TO_BOOKING,
        "AUTH_INTERNAL_URL": auth.url,
        "JWKS_URL": f"{auth.url}/api/auth/.well-known/jwks.json",
        **UNLIMITED,  # a race is run again and again by the same few
    }


def settings_of(database_url: str, redis_url: str, auth: AuthStub) -> Settings:
    return load(Settings, environment(database_url, redis_url, auth))


async def starts_in_the_past(database: asyncpg.Connection, appointment: dict[str, Any], ago: timedelta) -> None:
    """Move the row into the past: the service goes by the database's clock, which a test cannot set."""
    await database.execute(
        """
        UPDATE appointments SET during = tstzrange(now() - $2::interval, now() - $2::interval + (ends_at - starts_at)),
                                blocked = tstzrange(now() - $2::interval, now() - $2::interval + (ends_at - starts_at))
        WHERE id = $1
        """,
        UUID(appointment["id"]),
        ago,
    )


async def hold(database: asyncpg.Connection, doctor: Person, patient: Person, at: datetime, expires: str) -> UUID:
    held = uuid4()
    await database.execute(
        """
        INSERT INTO appointments (id, doctor_id, patient_id, status, hold_expires_at, during, blocked, overbooked,
                                  time_zone, wall_time, tzdata_version, version, created_at, updated_at)
        VALUES ($1, $2, $3, 'HELD', now() + $4::text::interval, tstzrange($5, $6), tstzrange($5, $6), false,
                'UTC', '2030-01-01', 'x', 1, now(), now())
        """,
        held,
        doctor.id,
        patient.id,
        expires,
        at,
        at + timedelta(minutes=30),
    )
    return held


async def repeat(database: asyncpg.Connection, appointment: dict[str, Any], times: int, *, every: timedelta) -> None:
    """Insert that many more appointments of the doctor, each with a patient of its own."""
    await database.execute(
        """
        INSERT INTO appointments (id, doctor_id, patient_id, status, during, blocked, overbooked, time_zone, wall_time,
                                  tzdata_version, version, created_at, updated_at)
        SELECT gen_random_uuid(), doctor_id, gen_random_uuid(), 'PENDING', slot, slot, false, 'UTC', wall_time,
               tzdata_version, 1, now(), now()
        FROM appointments,
             generate_series(1, $2::int) AS n,
             LATERAL (SELECT tstzrange(starts_at + n * $3::interval, ends_at + n * $3::interval)) AS s (slot)
        WHERE id = $1
        """,
        appointment["id"],
        times,
        every,
    )


async def events_of(database: asyncpg.Connection, appointment: dict[str, Any]) -> list[tuple[str, int]]:
    rows = await database.fetch(
        "SELECT type, version FROM outbox WHERE aggregateid = $1 ORDER BY seq", appointment["id"]
    )
    return [(row["type"], row["version"]) for row in rows]


async def is_in_stream(redis_url: str, appointment: dict[str, Any]) -> bool:
    """Tell whether an event of the appointment has reached the stream."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        entries: Any = await redis.xrange("booking.appointments")
    return any(fields["aggregateid"] == appointment["id"] for _, fields in entries)


async def is_lock_awaited(database: asyncpg.Connection) -> bool:
    """Tell whether a session waits for a lock in this database; other workers use the same server."""
    return bool(await database.fetchval(_WAITS))


_WAITS = """
    SELECT EXISTS (
        SELECT FROM pg_locks AS waiting JOIN pg_locks AS held USING (pid)
        WHERE NOT waiting.granted AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
"""


async def appointment_that_is(
    status: str, client: httpx.AsyncClient, database: asyncpg.Connection, doctor: Person, patient: Person
) -> dict[str, Any]:
    """Book and change an appointment. COMPLETED and NO_SHOW started an hour ago; the others are upcoming."""
    appointment = await book(client, patient, doctor)
    if status in ("PENDING", "CANCELLED"):
        return appointment if status == "PENDING" else await changed(client, doctor, appointment, status=status)
    appointment = await changed(client, doctor, appointment, status="CONFIRMED")
    if status == "CONFIRMED":
        return appointment
    await starts_in_the_past(database, appointment, timedelta(hours=1))
    return await changed(client, doctor, appointment, status=status)


async def ready(client: httpx.AsyncClient) -> None:
    """Wait until the service has reached its database."""

    async def holds() -> bool:
        report = (await client.get("/api/health")).json()
        return bool(report["checks"]["postgres"]["status"] == "ok")

    await eventually(holds)
