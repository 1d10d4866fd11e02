"""pgbench of the embedded PostgreSQL with the services' own statements, to measure the database alone."""

import asyncio
import re
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import msgspec

from services.auth.doctors.reads import GET_DOCTOR
from services.auth.doctors.reads import list_statement as list_doctors
from services.booking import idempotency
from services.booking.appointments import reads, repository
from services.booking.slots.checks import LOOK
from services.booking.time import obstacles
from services.contracts.enums import Role
from services.kit.postgres.database import Statement
from services.standalone.postgres import Postgres
from tests.bench.data import FIRST_FREE, LENGTH, PEOPLE, sql_id

CONNECTIONS = 20  # as many as a service's pool has
_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_MINUTES = int(LENGTH.total_seconds() // 60)
_runs = count(1)

# Passed to pgbench as variables, because it would read the colons in JSON as references to variables.
_STATE = {
    "status": "PENDING",
    "dateTime": FIRST_FREE,
    "durationMinutes": _MINUTES,
    "timeZone": "Europe/Berlin",
    "notes": "First visit",
    "overbooked": False,
    "cancellationReason": None,
}
_IDS = dict.fromkeys(("id", "doctorId", "patientId", "actorId"), "00000000-0000-7000-8000-100000000000")
_TEXTS = {
    "state": msgspec.json.encode(_STATE).decode(),
    "payload": msgspec.json.encode({"type": "AppointmentCreated", "version": 1, **_IDS, **_STATE}).decode(),
    "body": msgspec.json.encode({**_IDS, **_STATE, "doctorName": "Ada Example", "version": 1}).decode(),
}


class PgbenchFailed(Exception):
    """The message holds pgbench's own."""


def _step(statement: Statement, expressions: Mapping[str, str]) -> str:
    """Return the statement with SQL in the place of its parameters. A parameter with a default keeps it."""
    defaults = dict(zip(statement.names, statement.values({}), strict=True))
    values = [expressions[name] if defaults[name] is None else f"'{defaults[name]}'" for name in statement.names]
    return re.sub(r"\$(\d+)", lambda match: f"({values[int(match[1]) - 1]})", statement.sql).replace("\n", " ") + ";"


_ANY_USERS = f"\\set one random(0, {PEOPLE - 1})\n\\set other random(0, {PEOPLE - 1})\n"
_READ = {"id": sql_id(1, ":one"), "caller": sql_id(2, ":other"), "is_admin": "false"}
GET_A_DOCTOR = _ANY_USERS + _step(GET_DOCTOR, _READ)
LIST_DOCTORS = _step(list_doctors("name", (), continued=False), {"limit": "51"})
LIST_APPOINTMENTS = _ANY_USERS + _step(reads.list_of(Role.PATIENT, frozenset()), {**_READ, "limit": "21"})


def _id(kind: int) -> str:
    """Return SQL for an id that differs in each transaction and grows with time, as the services' ids do."""
    of_transaction = "lpad(to_hex(:n::bigint * 256 + :client_id::int), 12, '0')"
    return f"(lpad(:run::text, 8, '0') || '-000{kind}-7000-8000-' || {of_transaction})::uuid"


_PATIENT = sql_id(2, ":patient")
_KEY = "'bench-' || :run::text || '-' || :client_id::text || '-' || :n::text"
_BOOKING = {
    "appointment_id": _id(1),
    "doctor_id": sql_id(1, ":place"),
    "patient_id": _PATIENT,
    "starts_at": "to_timestamp(:starts::float8)",
    "ends_at": f"to_timestamp(:starts::float8 + {_MINUTES * 60})",
    "wall_time": "to_timestamp(:starts::float8) AT TIME ZONE 'UTC'",
    "time_zone": "'Europe/Berlin'",
    "tzdata_version": "'2026f'",
    # no appointment type
    "type_id": "NULL::uuid",
    "type_minutes": "NULL::integer",
    "by_patient": "true",
    "buffer_before": "interval '0'",
    "buffer_after": "interval '0'",
    **dict.fromkeys(("type_name", "type_mode", "type_price", "requires_confirmation", "join_url"), "NULL"),
    "caller": _PATIENT,
    "caller_session": _id(9),
    "key_user": _PATIENT,
    "key_route": "'POST /api/appointments'",
    "key": _KEY,
    # locks
    "request_lock": ":n::bigint * 1000 + :client_id::int + 1000000",
    "first_lock": ":place::bigint",
    "second_lock": f"{PEOPLE} + :patient::bigint",
    # the appointment, its history and its event
    "status": "'PENDING'",
    "overbooked": "false",
    "notes": "'First visit'",
    "cancellation_reason": "NULL",
    "updated_at": "now()",
    "actor_id": _PATIENT,
    "actor_role": "'PATIENT'",
    "reason": "NULL",
    "changes": ":state",
    "id": _id(2),
    "aggregatetype": "'appointment'",
    "aggregateid": f"{_id(1)}::text",
    "type": "'AppointmentCreated'",
    "version": "1",
    "payload": ":payload",
    "traceparent": "'00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'",
    "request_id": "'5d6d70975b3f454088d182cdcbd4e8b1'",
    # the audit trail
    "audit_action": "'appointment.created'",
    "audit_result": "'SUCCEEDED'",
    "audit_code": "NULL",
    "audit_actor_id": _PATIENT,
    "audit_actor_role": "'PATIENT'",
    "audit_session_id": _id(9),
    "audit_target_type": "'appointment'",
    "audit_target_id": _id(1),
    "audit_address": "'127.0.0.1'",
    "audit_request_id": "'5d6d70975b3f454088d182cdcbd4e8b1'",
    # the stored answer
    "answer_status": "201",
    "answer_fingerprint": "sha256(convert_to(:body, 'UTF8'))",
    "answer_location": f"'/api/appointments/' || {_id(1)}::text",
    "answer_etag": "'\"1\"'",
    "answer_body": "convert_to(:body, 'UTF8')",
}
# Each client has doctors of its own, and patients change from turn to turn: no user is in two transactions at once.
BOOK = "\n".join(
    [
        "\\set n :n + 1",
        f"\\set place :client_id * {PEOPLE // CONNECTIONS} + :n % {PEOPLE // CONNECTIONS}",
        f"\\set turn :n / {PEOPLE // CONNECTIONS}",
        f"\\set patient (:place + :turn) % {PEOPLE}",
        f"\\set starts :first + :turn * {_MINUTES * 60}",
        _step(LOOK, _BOOKING),
        "BEGIN;",
        _step(idempotency.BEGIN, _BOOKING),
        _step(obstacles.FIND, _BOOKING),
        _step(repository.ADD_WITH_ANSWER, _BOOKING),
        "COMMIT;",
    ]
)


async def transactions_per_second(url: str, script: str, seconds: int, *, connections: int = CONNECTIONS) -> float:
    """Run a script with prepared statements and one thread, as one process of a service sends its statements."""
    run = next(_runs)
    variables = {"n": 0, "run": run, "first": int(FIRST_FREE.timestamp()) + run * 30 * 86_400, **_TEXTS}
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        process = await asyncio.create_subprocess_exec(
            Path(Postgres.programs(), "pgbench"),
            "--no-vacuum",
            "--protocol=prepared",
            f"--client={connections}",
            f"--time={seconds}",
            f"--file={file.name}",
            *(f"--define={name}={value}" for name, value in variables.items()),
            url,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    found = _TPS.search(output.decode())
    if process.returncode or found is None:
        raise PgbenchFailed(f"pgbench ended with {process.returncode}: {(errors or output).decode()[:2000]}")
    return float(found[1])
