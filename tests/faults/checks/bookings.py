"""C1 to C4: the appointments in PostgreSQL, compared with what clients were answered."""

from typing import Any

import msgspec

from tests.faults.checks.evidence import Evidence, Finding, findings


async def acknowledged_is_stored(evidence: Evidence) -> list[Finding]:
    """C1. The history holds every acknowledged version with the acknowledged fields."""
    rows = await evidence.booking.fetch("SELECT id, doctor_id, patient_id, version FROM appointments")
    appointments = {str(row["id"]): row for row in rows}
    history: dict[tuple[str, int], dict[str, Any]] = {}
    for id, version, changes in await evidence.booking.fetch(
        "SELECT appointment_id::text, version, changes FROM appointment_history ORDER BY 1, 2"
    ):
        history[id, version] = history.get((id, version - 1), {}) | changes
    missing, different, refused = [], [], []
    for operation in evidence.operations:
        for reply in operation.acknowledgements:
            body = msgspec.json.decode(reply.body)
            row = appointments.get(body["id"])
            if row is None or row["version"] < body["version"]:
                missing.append(f"{body['id']} version {body['version']}")
                continue
            after = history.get((body["id"], body["version"]))
            parties = (str(row["doctor_id"]), str(row["patient_id"]))
            if after != {name: body[name] for name in after or ()} or parties != (body["doctorId"], body["patientId"]):
                different.append(f"{body['id']} version {body['version']}")
        if operation.outcome == "refused" and operation.intent.uncontested:
            last = operation.replies[-1]
            refused.append(f"{operation.intent.kind} {operation.intent.operation} ({last.status} {last.code})")
    return [
        *findings("C1", "acknowledged but not stored", dict.fromkeys(missing), "lost"),
        *findings("C1", "stored with other fields than acknowledged", dict.fromkeys(different), "lost"),
        *findings("C1", "refused without a reason", refused),
    ]


async def nothing_overlaps(evidence: Evidence) -> list[Finding]:
    """C2. No two active appointments of a doctor or of a patient overlap."""
    rows = await evidence.booking.fetch(
        """
        WITH active AS MATERIALIZED (SELECT * FROM appointments WHERE status IN ('HELD', 'PENDING', 'CONFIRMED'))
        SELECT a.id AS one, b.id AS other FROM active a JOIN active b
        ON a.id < b.id AND a.doctor_id = b.doctor_id AND a.blocked && b.blocked
        WHERE NOT a.overbooked AND NOT b.overbooked
        UNION
        SELECT a.id, b.id FROM active a JOIN active b
        ON a.id < b.id AND a.patient_id = b.patient_id AND a.during && b.during
        """
    )
    return findings("C2", "overlapping", (f"{row['one']} and {row['other']}" for row in rows), "doubled")


async def a_key_books_once(evidence: Evidence) -> list[Finding]:
    """C3. A key has one appointment at most, found by its notes, and every 2xx answer to it equals the stored one."""
    rows = await evidence.booking.fetch(
        "SELECT notes FROM appointments WHERE notes IS NOT NULL GROUP BY notes HAVING count(*) > 1"
    )
    stored = await evidence.booking.fetch("SELECT key, body FROM idempotency_keys")
    bodies = {row["key"]: bytes(row["body"]).decode() for row in stored}
    unequal = []
    for operation in evidence.operations:
        answers = {reply.body for reply in operation.acknowledgements}
        key = operation.intent.key
        if key and answers and answers != {bodies.get(key)}:
            unequal.append(key)
    return [
        *findings("C3", "several appointments for one key", (row["notes"] for row in rows), "doubled"),
        *findings("C3", "answers that differ from the one stored for the key", unequal),
    ]


async def every_version_is_recorded_once(evidence: Evidence) -> list[Finding]:
    """C4. Every version of an appointment has exactly one outbox row and one history row."""
    found = []
    for table, columns in (
        ("outbox", "aggregateid, version"),
        ("appointment_history", "appointment_id::text, version"),
    ):
        rows = await evidence.booking.fetch(
            f"""
            WITH written (id, version, number) AS (SELECT {columns}, count(*) FROM {table} GROUP BY 1, 2),
                 versions AS (
                    SELECT id::text, v AS version FROM appointments, generate_series(1, version) AS v
                    WHERE status <> 'HELD'
                 )
            SELECT coalesce(v.id, w.id) AS id, coalesce(v.version, w.version) AS version, coalesce(number, 0) AS number
            FROM versions v FULL JOIN written w ON w.id = v.id AND w.version = v.version
            WHERE number IS DISTINCT FROM 1 OR v.id IS NULL
            """
        )
        things = (f"{row['id']} version {row['version']} has {row['number']}" for row in rows)
        found += findings("C4", f"not exactly one row in {table}", things)
    return found
