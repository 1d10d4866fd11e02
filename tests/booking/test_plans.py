"""The plans of the hot statements on a large table use an index and do not sort."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from services.booking import idempotency
from services.booking.appointment_types import repository as types
from services.booking.appointments import affected, reads, repository
from services.booking.availability.repository import FIND_EXCEPTIONS
from services.booking.holds import repository as holds
from services.booking.holds.reads import list_of as list_of_holds
from services.booking.schedule_exceptions.reads import LIST as EXCEPTIONS
from services.booking.slots.checks import LOOK
from services.booking.slots.reads import CALENDAR
from services.booking.time import busy, obstacles
from services.contracts.enums import Role
from services.kit.postgres.database import Statement
from services.kit.zones import TZDATA_VERSION
from tests.support.databases import CloneDatabase

ROWS = 60_000
NOW = datetime.now(UTC).replace(microsecond=0)
# 400 doctors and as many patients, with an appointment an hour; a quarter of them are to come.
_FILL = f"""
    INSERT INTO appointments (id, doctor_id, patient_id, status, during, blocked, overbooked, time_zone, wall_time,
                              tzdata_version, version, created_at, updated_at)
    SELECT gen_random_uuid(), doctor.id, patient.id,
           CASE WHEN n < {ROWS * 3 // 4} THEN 'COMPLETED' WHEN n % 10 = 0 THEN 'CANCELLED' ELSE 'CONFIRMED' END,
           slot, slot, false, 'UTC', now(), '{TZDATA_VERSION}', 1, now(), now()
    FROM generate_series(1, {ROWS}) AS n,
         LATERAL (SELECT md5('doctor' || n % 400)::uuid) AS doctor (id),
         LATERAL (SELECT md5('patient' || n % 400)::uuid) AS patient (id),
         LATERAL (SELECT $1::timestamptz + (n - {ROWS * 3 // 4}) / 400 * interval '1 hour') AS start (time),
         LATERAL (SELECT tstzrange(time, time + interval '30 minutes')) AS range (slot)
"""


@pytest.fixture(scope="module")
async def large(clone_database: CloneDatabase, worker_id: str) -> AsyncIterator[asyncpg.Connection]:
    urls = await clone_database("booking", f"booking_plans_{worker_id}")
    connection = await asyncpg.connect(urls.migration)
    await connection.execute(_FILL, NOW)
    await connection.execute(
        "INSERT INTO users (id, role, status, full_name, time_zone, version)"
        " SELECT DISTINCT doctor_id, 'DOCTOR', 'ACTIVE', 'Ada', 'UTC', 1 FROM appointments"
    )
    await connection.execute(
        "INSERT INTO appointment_types (id, doctor_id, name, mode, duration_minutes, buffer_before_minutes,"
        " buffer_after_minutes, bookable_by, active, position, version, created_at, updated_at)"
        " SELECT gen_random_uuid(), id, 'Consultation', 'PHONE', 30, 5, 5, 'KNOWN_PATIENTS', true, n, 1, now(), now()"
        " FROM users, generate_series(1, 10) AS n"
    )
    await connection.execute(
        "INSERT INTO appointment_history (appointment_id, version, changed_at, actor_role, changes)"
        " SELECT id, 1, now(), 'SYSTEM', '{}' FROM appointments LIMIT 10000"
    )
    await connection.execute(
        "INSERT INTO schedule_exceptions SELECT gen_random_uuid(), id, 'OFF', day, day + interval '1 day', NULL, now()"
        " FROM users, generate_series(current_date - 10, current_date + 39, interval '1 day') AS day"
    )
    await connection.execute(
        "INSERT INTO schedule_exception_history SELECT doctor_id, row_number() OVER (PARTITION BY doctor_id), now(),"
        " doctor_id, 'DOCTOR', 'ADDED', id, kind, starts_at, ends_at FROM schedule_exceptions"
    )
    await connection.execute("ANALYZE")
    yield connection
    await connection.close()


DOCTOR = UUID("00000000-0000-0000-0000-000000000001")
CLAIM = {
    "appointment_id": DOCTOR,
    "doctor_id": DOCTOR,
    "patient_id": DOCTOR,
    "starts_at": NOW + timedelta(days=1),
    "ends_at": NOW + timedelta(days=1, minutes=30),
    "buffer_before": timedelta(),
    "buffer_after": timedelta(),
}
CHOICE = {"type_id": None, "type_minutes": None, "by_patient": True}
SEEN_BY = {**CLAIM, **CHOICE, "caller": DOCTOR, "caller_session": DOCTOR}
KEY = {"key_user": DOCTOR, "key_route": "POST /api/appointments", "key": "key"}
LATER = {"after_start": NOW + timedelta(days=2), "after_id": DOCTOR}
ME = {"caller": DOCTOR}
STATEMENTS: dict[str, tuple[Statement, dict[str, Any]]] = {
    "look": (LOOK, {**SEEN_BY, **KEY}),
    "obstacles": (obstacles.FIND, SEEN_BY),
    "obstacles to a hold": (holds.FIND_WITH_COUNT, SEEN_BY),
    "look at a hold": (holds.LOOK, {"appointment_id": DOCTOR, **ME, "caller_session": DOCTOR, **KEY}),
    "a hold to book": (holds.FIND, SEEN_BY),
    "a hold to release": (holds.RELEASE[Role.PATIENT], {"id": DOCTOR, **ME}),
    "an erased doctor's holds": (holds.RELEASE_ALL[Role.DOCTOR], {"doctor_id": DOCTOR}),
    "a doctor's holds": (list_of_holds(Role.DOCTOR, frozenset()), {**ME, "limit": 51}),
    "a patient's holds": (list_of_holds(Role.PATIENT, frozenset()), {**ME, "limit": 51}),
    "an admin's holds": (list_of_holds(Role.ADMIN, frozenset()), {"limit": 51}),
    "busy": (busy.BUSY, {**CLAIM, "limit": 500}),
    "calendar": (CALENDAR, CHOICE | {name: CLAIM[name] for name in ("doctor_id", "starts_at", "ends_at")}),
    "a doctor's types": (types.LIST, {"doctor_id": DOCTOR}),
    "deleting a type": (types.DELETE, {"id": DOCTOR}),
    "exceptions": (FIND_EXCEPTIONS, {"doctor_id": DOCTOR}),
    "a page of exceptions": (
        EXCEPTIONS,
        {
            "doctor_id": DOCTOR,
            "first": NOW.replace(tzinfo=None),
            "end": NOW.replace(tzinfo=None) + timedelta(days=9),
            "after_start": NOW.replace(tzinfo=None),
            "after_id": DOCTOR,
            "limit": 51,
        },
    ),
    "affected": (affected.UPCOMING, {"doctor_id": DOCTOR}),
    "get": (reads.GET[Role.PATIENT], {"id": DOCTOR, **ME}),
    "lock": (repository.GET_FOR_UPDATE[Role.DOCTOR], {"id": DOCTOR, **ME}),
    "history": (reads.HISTORY[Role.ADMIN], {"id": DOCTOR, "from_version": 1, "limit": 51}),
    "unanswered": (repository.UNANSWERED_FOR_UPDATE, {"limit": 100}),
    "a doctor's future": (reads.FUTURE[Role.DOCTOR], {"doctor_id": DOCTOR, "limit": 100}),
    "a doctor's list": (reads.list_of(Role.DOCTOR, frozenset()), {**ME, "limit": 51}),
    "a doctor's page": (reads.list_of(Role.DOCTOR, frozenset({"after"})), {**ME, **LATER, "limit": 51}),
    "a patient's list": (reads.list_of(Role.PATIENT, frozenset()), {**ME, "limit": 51}),
    "a patient's page": (reads.list_of(Role.PATIENT, frozenset({"after"})), {**ME, **LATER, "limit": 51}),
    "a patient's week": (
        reads.list_of(Role.PATIENT, frozenset({"from_", "to"})),
        {**ME, "from_": NOW, "to": NOW + timedelta(days=7), "limit": 51},
    ),
    "an admin's list": (reads.list_of(Role.ADMIN, frozenset()), {"limit": 51}),
    "an admin's page": (reads.list_of(Role.ADMIN, frozenset({"after"})), {**LATER, "limit": 51}),
    "an admin's list by status": (reads.list_of(Role.ADMIN, frozenset({"status"})), {"status": "NO_SHOW", "limit": 51}),
    "an admin's list of a doctor": (
        reads.list_of(Role.ADMIN, frozenset({"doctor_id"})),
        {"doctor_id": DOCTOR, "limit": 51},
    ),
    "idempotency key": (idempotency.FIND, KEY),
}
# Where few rows are expected, the planner may prefer to read all of them and sort these.
FEW = {
    "look",
    "obstacles",
    "obstacles to a hold",
    "a hold to book",
    "a doctor's holds",
    "a patient's holds",
    "an admin's holds",
    "a doctor's types",
    "busy",
    "calendar",
    "exceptions",
    "a page of exceptions",
    "affected",
    "history",
    "a doctor's future",
    "a patient's week",
}


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_hot_statement_uses_an_index(large: asyncpg.Connection, name: str, generic: bool) -> None:
    statement, values = STATEMENTS[name]
    ((doctor, patient),) = await large.fetch("SELECT doctor_id, patient_id FROM appointments LIMIT 1")
    real = {"doctor_id": doctor, "patient_id": patient, "caller": patient if "patient" in name else doctor}
    values = {key: real.get(key, value) for key, value in values.items()}
    if generic:
        # As asyncpg's prepared statements are planned after a while: for any values.
        await large.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE hot AS {statement.sql}")
        rows = await large.fetch(f"EXPLAIN EXECUTE hot ({', '.join(['NULL'] * len(statement.values(values)))})")
        await large.execute("DEALLOCATE hot")
    else:
        rows = await large.fetch(f"EXPLAIN {statement.sql}", *statement.values(values))
    plan = "\n".join(row[0] for row in rows)
    for table in ("appointments", "appointment_", "schedule_exceptions", "schedule_exception_history"):
        assert f"Seq Scan on {table}" not in plan, plan
    if name not in FEW:
        assert "Sort" not in plan, plan


async def test_a_page_far_back_costs_what_the_first_one_costs(large: asyncpg.Connection) -> None:
    first, page = reads.list_of(Role.ADMIN, frozenset()), reads.list_of(Role.ADMIN, frozenset({"after"}))
    (deep,) = await large.fetch("SELECT starts_at, id FROM appointments ORDER BY starts_at, id LIMIT 1 OFFSET 100")

    async def rows_read(statement: Statement, **values: Any) -> int:
        (row,) = await large.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.sql}", *statement.values(values))
        plan = json.loads(row[0])[0]["Plan"]

        def total(node: dict[str, Any]) -> int:
            own = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) if "Relation Name" in node else 0
            return int(own) + sum(total(child) for child in node.get("Plans", ()))

        return total(plan)

    near = await rows_read(first, limit=51)
    assert await rows_read(page, limit=51, after_start=deep["starts_at"], after_id=deep["id"]) <= near
