from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from services.auth.app import MIGRATIONS
from services.auth.doctors import reads as doctors
from services.auth.doctors.reads import DoctorSort
from services.auth.models import Base
from services.auth.patients.reads import list_statement as patient_list_statement
from services.contracts.enums import UserStatus
from services.kit.postgres.migrations import migrate
from services.standalone.databases import DatabaseUrls
from tests.support.databases import CloneDatabase, ServerUrls
from tests.support.schema import assert_same_schema, empty_database


@pytest.fixture(scope="module")
async def database(clone_database: CloneDatabase, worker_id: str) -> DatabaseUrls:
    return await clone_database("auth", f"auth_schema_{worker_id}")


@pytest.fixture
async def application(database: DatabaseUrls) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.application)
    yield connection
    await connection.close()


async def test_models_and_migrations_agree(database: DatabaseUrls, servers: ServerUrls, worker_id: str) -> None:
    by_models = await empty_database(servers, "auth", f"auth_models_{worker_id}")
    await assert_same_schema(database.migration, by_models.migration, Base.metadata, "pg_trgm")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (id int)",
        "ALTER TABLE users ADD COLUMN more int",
        "DROP TABLE sessions",
        "CREATE SCHEMA more",
        "TRUNCATE users",
        "DELETE FROM users",
        "UPDATE alembic_version SET version_num = '0'",
    ],
)
async def test_the_application_may_not(application: Any, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.execute(statement)


async def test_older_code_leaves_a_newer_schema_as_it_is(servers: ServerUrls, worker_id: str) -> None:
    """A rollback runs the older release's migrations on the newer schema."""
    # One role for both: PostgreSQL refuses two concurrent changes of the application's role, which all databases share.
    urls = await empty_database(servers, "auth", f"auth_newer_{worker_id}")
    await migrate(MIGRATIONS, migration_url=urls.migration, application_url=urls.migration)
    connection = await asyncpg.connect(urls.migration)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert await migrate(MIGRATIONS, migration_url=urls.migration, application_url=urls.migration) == []
    assert await connection.fetchval("SELECT version_num FROM alembic_version") == "9999"
    await connection.close()


_VALID = {
    "id": "gen_random_uuid()",
    "email": "gen_random_uuid()::text",
    "password_hash": "'x'",
    "role": "'DOCTOR'",
    "status": "'PENDING'",
    "fullname": "'Ada'",
    "time_zone": "'UTC'",
    "locale": "'en'",
    "version": "1",
    "created_at": "now()",
    "updated_at": "now()",
}


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"role": "'NURSE'", "status": "'ACTIVE'"}, "users_role_known"),
        ({"status": "'GONE'"}, "users_status_known"),
        ({"role": "'PATIENT'"}, "users_status_known"),
        ({"role": "'PATIENT'", "status": "'ACTIVE'", "speciality": "'Surgery'"}, "users_only_doctors_practise"),
        ({"role": "'ADMIN'", "status": "'ACTIVE'", "experience": "1"}, "users_only_doctors_practise"),
        ({"experience": "81"}, "users_experience_in_years"),
        ({"consultation_fee": "-1"}, "users_fee_not_negative"),
        ({"version": "0"}, "users_version_positive"),
    ],
)
async def test_the_database_itself_refuses(application: Any, values: dict[str, str], constraint: str) -> None:
    row = {**_VALID, **values}
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await application.execute(f"INSERT INTO users ({', '.join(row)}) VALUES ({', '.join(row.values())})")
    assert refused.value.constraint_name == constraint


@pytest.fixture(scope="module")
async def crowd(database: DatabaseUrls) -> AsyncIterator[Any]:
    """A connection to a database with 6,000 doctors and 6,000 patients."""
    owner = await asyncpg.connect(database.migration)
    row = {
        **_VALID,
        "status": "CASE WHEN n % 10 = 0 THEN 'PENDING' ELSE 'ACTIVE' END",
        "fullname": "md5(n::text)",
        "speciality": "'Speciality ' || n % 4",
        "experience": "nullif(n % 60, 0)",
        "consultation_fee": "nullif(n % 300, 0) / 2.0",
    }
    await owner.execute(
        f"INSERT INTO users ({', '.join(row)}) SELECT {', '.join(row.values())} FROM generate_series(1, 6000) AS n"
    )
    row = {**_VALID, "role": "'PATIENT'", "status": "'ACTIVE'", "fullname": "md5(n::text)"}
    await owner.execute(
        f"INSERT INTO users ({', '.join(row)}) SELECT {', '.join(row.values())} FROM generate_series(1, 6000) AS n"
    )
    await owner.execute("VACUUM ANALYZE users")
    await owner.close()
    connection = await asyncpg.connect(database.application)
    yield connection
    await connection.close()


async def _plan(connection: Any, statement: Any, **values: Any) -> str:
    # A generic plan, as a long-lived prepared statement has it.
    async with connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        rows = await connection.fetch(f"EXPLAIN {statement.sql}", *statement.values(values))
    return "\n".join(row[0] for row in rows)


_LAST: dict[DoctorSort, Any] = {"name": "8", "-experience": -30, "fee": 75}


@pytest.mark.parametrize(
    ("sort", "index"),
    [
        ("name", "users_doctors_by_folded_name"),
        ("-experience", "users_doctors_by_experience"),
        ("fee", "users_doctors_by_fee"),
    ],
)
@pytest.mark.parametrize("continued", [False, True])
async def test_each_sort_order_uses_its_index(crowd: Any, sort: DoctorSort, index: str, continued: bool) -> None:
    position = {"key": _LAST[sort], "id": uuid4()} if continued else {}
    plan = await _plan(crowd, doctors.list_statement(sort, (), continued), **position, limit=51)
    assert f"Index Scan using {index} on users" in plan
    assert "Sort" not in plan
    assert "Filter" not in plan
    assert not continued or "Index Cond: (ROW(" in plan


@pytest.mark.parametrize("continued", [False, True])
async def test_doctors_by_status_use_their_index(crowd: Any, continued: bool) -> None:
    position = {"key": "8", "id": uuid4()} if continued else {}
    plan = await _plan(crowd, doctors.list_statement("name", (), continued, UserStatus.PENDING), **position, limit=51)
    assert "Index Scan using users_doctors_not_listed_by_name on users" in plan
    assert "Sort" not in plan


async def test_a_speciality_uses_its_index(crowd: Any) -> None:
    plan = await _plan(
        crowd, doctors.list_statement("name", ("speciality",), False), speciality="Speciality 3", limit=51
    )
    assert "users_doctors_by_folded_speciality" in plan


@pytest.mark.parametrize("position", [{}, {"id": uuid4()}])
async def test_the_list_of_patients_uses_its_index(crowd: Any, position: dict[str, Any]) -> None:
    plan = await _plan(crowd, patient_list_statement((), bool(position)), **position, limit=51)
    assert "Index Scan Backward using users_patients on users" in plan
    assert "Sort" not in plan


async def test_a_search_uses_trigrams(crowd: Any) -> None:
    plan = await _plan(crowd, doctors.list_statement("name", ("q",), False), q="%c4ca4238a0%", limit=51)
    assert "Bitmap Index Scan on users_folded_search" in plan
