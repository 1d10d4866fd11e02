"""Users and appointments, inserted as rows because that takes seconds for a million.

Ids are derived from numbers, so that SQL and Python can name the same user without passing ids around.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from services.kit.zones import TZDATA_VERSION

PEOPLE = 200  # doctors, and as many patients: more than connections, so that no user is in two requests at a time
LENGTH = timedelta(minutes=30)  # of an appointment
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
FIRST_FREE = NOW + timedelta(days=60)  # after every filled appointment


def doctor_id(number: int) -> UUID:
    return UUID(f"00000000-0000-7000-8000-1{number:011d}")


def patient_id(number: int) -> UUID:
    return UUID(f"00000000-0000-7000-8000-2{number:011d}")


DOCTORS = [doctor_id(number) for number in range(PEOPLE)]
PATIENTS = [patient_id(number) for number in range(PEOPLE)]


def sql_id(kind: int, number: str) -> str:
    """Return SQL for the id of a doctor (kind 1) or a patient (kind 2); `number` is SQL, too."""
    return f"('00000000-0000-7000-8000-{kind}' || lpad(({number})::text, 11, '0'))::uuid"


# Every user has one appointment after the other, half an hour each. A twentieth of all lies in the future and the rest
# in the past, as in a clinic that has worked for years. Doctor and patient change from one half hour to the next.
_FILL = f"""
    INSERT INTO appointments (id, doctor_id, patient_id, status, during, blocked, overbooked, time_zone, wall_time,
                              tzdata_version, version, created_at, updated_at)
    SELECT uuidv7(), {sql_id(1, f"n % {PEOPLE}")}, {sql_id(2, f"(n + n / {PEOPLE}) % {PEOPLE}")},
           CASE WHEN slot << tstzrange($2, NULL) THEN 'COMPLETED' ELSE 'CONFIRMED' END,
           slot, slot, false, 'UTC', lower(slot) AT TIME ZONE 'UTC', '{TZDATA_VERSION}', 1, now(), now()
    FROM generate_series(0, $1 - 1) AS n,
         LATERAL (SELECT n / {PEOPLE} - $1 / {PEOPLE} * 19 / 20) AS since_now (half_hours),
         LATERAL (SELECT $2::timestamptz + half_hours * interval '30 minutes') AS start (time),
         LATERAL (SELECT tstzrange(time, time + interval '30 minutes')) AS appointment (slot)
"""
_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE tablename = 'appointments' AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""
_PEOPLE = """
    INSERT INTO users (id, role, status, full_name, time_zone, version)
    SELECT id, $2, 'ACTIVE', 'Ada Example', 'Europe/Berlin', 1 FROM unnest($1::uuid[]) AS id
    ON CONFLICT DO NOTHING
"""


async def fill(owner_url: str, appointments: int) -> None:
    """Fill a database of booking, as its owner, because the application's role has a statement time-out."""
    connection = await asyncpg.connect(owner_url)
    try:
        for people, role in ((DOCTORS, "DOCTOR"), (PATIENTS, "PATIENT")):
            await connection.execute(_PEOPLE, people, role)
        # Building an index afterwards takes less time than maintaining it during the insert.
        indexes = await connection.fetch(_INDEXES)
        for name, _ in indexes:
            await connection.execute(f"DROP INDEX {name}")
        await connection.execute(_FILL, appointments, NOW)
        await connection.execute("SET maintenance_work_mem = '256MB'")
        for _, definition in indexes:
            await connection.execute(definition)
        await connection.execute("VACUUM ANALYZE appointments")
    finally:
        await connection.close()
