"""The schema that the migrations create."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from services.booking.app import MIGRATIONS
from services.booking.models.metadata import metadata
from services.kit.postgres.migrations import migrate
from services.standalone.databases import DatabaseUrls
from tests.support.databases import ServerUrls
from tests.support.schema import assert_same_schema, empty_database

AT = datetime(2030, 1, 1, tzinfo=UTC)


async def test_models_and_migrations_agree(booking_database: DatabaseUrls, servers: ServerUrls, worker_id: str) -> None:
    by_models = await empty_database(servers, "booking", f"booking_models_{worker_id}")
    await assert_same_schema(booking_database.migration, by_models.migration, metadata, "btree_gist")


async def test_migrating_again_changes_nothing(booking_database: DatabaseUrls) -> None:
    urls = booking_database
    assert await migrate(MIGRATIONS, migration_url=urls.migration, application_url=urls.application) == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine ()",
        "DROP TABLE appointments",
        "ALTER TABLE appointments DROP CONSTRAINT appointment_doctor_no_overlap",
        "TRUNCATE appointments CASCADE",
        "UPDATE appointment_history SET reason = 'another'",
        "DELETE FROM appointment_history",
        "UPDATE schedule_history SET actor_role = 'ADMIN'",
        "DELETE FROM schedule_history",
        "DELETE FROM schedules",
        "UPDATE schedule_exceptions SET ends_at = starts_at",
        "UPDATE schedule_exception_history SET revision = 9",
        "DELETE FROM schedule_exception_history",
        "UPDATE dead_letters SET error = ''",
        "UPDATE alembic_version SET version_num = '0'",
    ],
)
async def test_the_application_may_not(application: asyncpg.Connection, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.execute(statement)


async def insert(connection: asyncpg.Connection, **values: Any) -> None:
    row = {
        "id": uuid4(),
        "doctor_id": uuid4(),
        "patient_id": uuid4(),
        "status": "PENDING",
        "during": asyncpg.Range(AT, AT + timedelta(hours=1)),
        "overbooked": False,
        "time_zone": "UTC",
        "wall_time": AT.replace(tzinfo=None),
        "tzdata_version": "x",
        "version": 1,
        "created_at": AT,
        "updated_at": AT,
        **values,
    }
    row.setdefault("blocked", row["during"])
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await connection.execute(f"INSERT INTO appointments ({', '.join(row)}) VALUES ({places})", *row.values())


@pytest.mark.parametrize(
    ("constraint", "values"),
    [
        ("appointments_status_known", {"status": "LOST"}),
        ("appointments_hold_expires", {"status": "HELD"}),
        ("appointments_hold_expires", {"hold_expires_at": AT}),
        ("appointments_during_half_open", {"during": asyncpg.Range(AT, AT)}),
        ("appointments_during_half_open", {"during": asyncpg.Range(AT, AT + timedelta(hours=1), upper_inc=True)}),
        (
            "appointments_blocked_covers_visit",
            {"blocked": asyncpg.Range(AT + timedelta(minutes=1), AT + timedelta(hours=2))},
        ),
        ("appointments_version_positive", {"version": 0}),
        ("appointments_of_a_type", {"type_id": uuid4(), "type_name": "Call", "type_mode": "PHONE"}),
        ("appointments_type_copied", {"type_id": uuid4(), "type_name": "Call"}),
    ],
)
async def test_an_appointment_that_makes_no_sense_is_refused(
    application: asyncpg.Connection, constraint: str, values: dict[str, Any]
) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refusal:
        await insert(application, **values)
    # PostgreSQL computes the start before it checks, and an empty range has none.
    empty = refusal.value.column_name == "starts_at"
    assert empty or refusal.value.constraint_name == constraint


@pytest.mark.parametrize("column", ["doctor_id", "patient_id"])
@pytest.mark.parametrize("status", ["HELD", "PENDING", "CONFIRMED", "COMPLETED", "NO_SHOW", "CANCELLED"])
async def test_no_two_active_claims_of_one_person_overlap(
    application: asyncpg.Connection, column: str, status: str
) -> None:
    person = uuid4()
    await insert(application, **{column: person})
    overlapping = {
        column: person,
        "status": status,
        "during": asyncpg.Range(AT + timedelta(minutes=59), AT + timedelta(hours=2)),
        "hold_expires_at": AT if status == "HELD" else None,
    }
    if status in ("HELD", "PENDING", "CONFIRMED"):
        with pytest.raises(asyncpg.ExclusionViolationError) as refusal:
            await insert(application, **overlapping)
        name = "appointment_doctor_no_overlap" if column == "doctor_id" else "appointment_patient_no_overlap"
        assert refusal.value.constraint_name == name
    else:
        await insert(application, **overlapping)
    touching = asyncpg.Range(AT + timedelta(hours=1), AT + timedelta(hours=3))
    await insert(application, **{column: person, "during": touching})


@pytest.mark.parametrize(
    ("constraint", "values"),
    [
        ("duration", {"duration_minutes": 4}),
        ("buffer_before", {"buffer_before_minutes": 241}),
        ("buffer_after", {"buffer_after_minutes": -1}),
        ("price", {"price": -1}),
        ("mode", {"mode": "FAX"}),
        ("bookable_by", {"bookable_by": "FRIENDS"}),
        ("join_url", {"join_url_template": "https://meet.example.com/{room}"}),
        ("position", {"position": 10_000}),
        ("version_positive", {"version": 0}),
    ],
)
async def test_an_appointment_type_that_makes_no_sense_is_refused(
    application: asyncpg.Connection, constraint: str, values: dict[str, Any]
) -> None:
    row = {
        "id": uuid4(),
        "doctor_id": uuid4(),
        "name": "Call",
        "mode": "PHONE",
        "duration_minutes": 30,
        "buffer_before_minutes": 0,
        "buffer_after_minutes": 0,
        "bookable_by": "EVERYONE",
        "active": True,
        "position": 0,
        "version": 1,
        "created_at": AT,
        "updated_at": AT,
        **values,
    }
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    with pytest.raises(asyncpg.CheckViolationError) as refusal:
        await application.execute(f"INSERT INTO appointment_types ({', '.join(row)}) VALUES ({places})", *row.values())
    assert refusal.value.constraint_name == f"appointment_types_{constraint}"


async def test_buffers_count_for_the_doctor_only(application: asyncpg.Connection) -> None:
    doctor, patient = uuid4(), uuid4()
    wide = asyncpg.Range(AT - timedelta(minutes=10), AT + timedelta(minutes=70))
    after = asyncpg.Range(AT + timedelta(hours=1), AT + timedelta(hours=2))
    await insert(application, doctor_id=doctor, patient_id=patient, blocked=wide)
    with pytest.raises(asyncpg.ExclusionViolationError):
        await insert(application, doctor_id=doctor, during=after)
    await insert(application, patient_id=patient, during=after)


async def test_overbooking_lifts_the_doctors_rule_never_the_patients(application: asyncpg.Connection) -> None:
    doctor, patient = uuid4(), uuid4()
    await insert(application, doctor_id=doctor, patient_id=patient)
    await insert(application, doctor_id=doctor, overbooked=True)
    with pytest.raises(asyncpg.ExclusionViolationError):
        await insert(application, patient_id=patient, overbooked=True)


async def test_the_statements_of_the_release_before_run_on_the_new_schema(
    application: asyncpg.Connection,
) -> None:
    """Migrations run before the new code, and old processes go on beside it."""
    appointment, patient = uuid4(), uuid4()
    await insert(application, id=appointment, patient_id=patient)
    await application.execute(
        """
        INSERT INTO appointment_history
            (appointment_id, version, changed_at, actor_id, actor_role, reason, before, after)
        VALUES ($1, 1, now(), $2, 'PATIENT', 'typed', NULL, '{"notes": "typed"}')
        """,
        appointment,
        patient,
    )
    await application.execute(
        """
        INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status, location, etag, body)
        VALUES ($1, 'POST /', 'key', '', 201, '/', '"1"', '{}')
        """,
        patient,
    )
    await application.execute(
        """
        INSERT INTO users (id, role, status, full_name, time_zone, version)
        VALUES ($1, 'PATIENT', 'ACTIVE', 'Bo', 'UTC', 1)
        """,
        patient,
    )
    await application.execute(
        """
        INSERT INTO schedules (doctor_id, time_zone, slot_minutes, minimum_notice_minutes, horizon_days, version,
                               updated_at, auto_confirm)
        VALUES ($1, 'UTC', 30, 0, 90, 1, now(), true)
        """,
        appointment,
    )
    query = "SELECT version, reason, before, after FROM appointment_history WHERE appointment_id = $1"
    (row,) = await application.fetch(query, appointment)
    assert tuple(row) == (1, "typed", None, '{"notes": "typed"}')
    await application.execute(
        """
        INSERT INTO appointment_history (appointment_id, version, changed_at, actor_id, actor_role, changes)
        VALUES ($1, 2, now(), $2, 'PATIENT', '{"notes": "typed", "status": "PENDING"}')
        """,
        appointment,
        patient,
    )
    await application.execute("SELECT forget_typed_texts($1)", patient)
    query = "SELECT * FROM appointment_history WHERE appointment_id = $1 ORDER BY version"
    rows = await application.fetch(query, appointment)
    assert "typed" not in str(rows)
    assert rows[1]["changes"] == '{"notes": null, "status": "PENDING"}'
