"""People and appointments as rows, as many as are wanted within seconds.

Their ids are numbers, so that SQL and Python name the same person without telling each other.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from services.kit.zones import TZDATA_VERSION

PEOPLE = 200  # of either kind: more than there are connections, so that nobody is in two requests at a time
VISIT = timedelta(minutes=30)
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
FIRST_FREE = NOW + timedelta(days=60)  # nobody has an appointment from here on


def doctor_id(number: int) -> UUID:
    return UUID(f"00000000-0000-7000-8000-1{number:011d}")


def patient_id(number: int) -> UUID:
    return UUID(f"00000000-0000-7000-8000-2{number:011d}")


DOCTORS = [doctor_id(number) for number in range(PEOPLE)]
PATIENTS = [patient_id(number) for number in range(PEOPLE)]


def sql_id(kind: int, number: str) -> str:
    """The id of a doctor (1) or a patient (2), where `number` is SQL."""
    return f"('00000000-0000-7000-8000-{kind}' || lpad(({number})::text, 11, '0'))::uuid"


# Everybody has a visit each half hour, one after the other, and a twentieth of all visits is to come: the rest is
# behind, as in a clinic that has been at it for years. Doctor and patient change from one half hour to the next.
_FILL = f"""
    INSERT INTO appointments (id, doctor_id, patient_id, status, during, blocked, overbooked, time_zone, wall_time,
                              tzdata_version, version, created_at, updated_at)
    SELECT uuidv7(), {sql_id(1, f"n % {PEOPLE}")}, {sql_id(2, f"(n + n / {PEOPLE}) % {PEOPLE}")},
           CASE WHEN slot << tstzrange($2, NULL) THEN 'COMPLETED' ELSE 'CONFIRMED' END,
           slot, slot, false, 'UTC', lower(slot) AT TIME ZONE 'UTC', '{TZDATA_VERSION}', 1, now(), now()
    FROM generate_series(0, $1 - 1) AS n,
         LATERAL (SELECT n / {PEOPLE} - $1 / {PEOPLE} * 19 / 20) AS since_now (half_hours),
         LATERAL (SELECT $2::timestamptz + half_hours * interval '30 minutes') AS start (time),
         LATERAL (SELECT tstzrange(time, time + interval '30 minutes')) AS visit (slot)
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
    """Fills the database of a booking service, as its owner, who has no limit of time."""
    connection = await asyncpg.connect(owner_url)
    try:
        for people, role in ((DOCTORS, "DOCTOR"), (PATIENTS, "PATIENT")):
            await connection.execute(_PEOPLE, people, role)
        # An index is made in less time than it takes to keep one up.
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
