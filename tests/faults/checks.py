"""C1 to C10: what has to hold when everything is quiet again, seen in the stores themselves and not through the API."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from redis.asyncio import Redis

from services.contracts.streams import APPOINTMENTS, USERS
from tests.faults.ledger import Operation

_NAMED = 5  # ids in a finding's text


class Finding(NamedTuple):
    """`number` things that a check found, of which `text` names the first; `harm` is what they mean to people."""

    check: str
    text: str
    number: int = 1
    harm: Literal["lost", "doubled"] | None = None


class Evidence(NamedTuple):
    """`booking` and `auth` are connections that may read everything, and decode jsonb.

    `cuts`: clients may have been left without an answer, because the fault was on their way to one.
    """

    operations: Sequence[Operation]
    booking: asyncpg.Connection
    auth: asyncpg.Connection
    mongodb: Any
    redis: Redis
    logs: Mapping[str, str]
    cuts: bool = False


def _found(
    check: str, what: str, things: Iterable[object], harm: Literal["lost", "doubled"] | None = None
) -> list[Finding]:
    found = [str(thing) for thing in things]
    if not found:
        return []
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return [Finding(check, f"{what}: {', '.join(found[:_NAMED])}{more}", len(found), harm)]


async def acknowledged_is_stored(evidence: Evidence) -> list[Finding]:
    """C1. What a client was told stands in the history of the row, under the version that it was told."""
    rows = await evidence.booking.fetch("SELECT id, doctor_id, patient_id, version FROM appointments")
    appointments = {str(row["id"]): row for row in rows}
    entries = await evidence.booking.fetch("SELECT appointment_id, version, after FROM appointment_history")
    history = {(str(row["appointment_id"]), row["version"]): row["after"] for row in entries}
    missing, different, refused = [], [], []
    for operation in evidence.operations:
        for reply in operation.acknowledgements:
            told = msgspec.json.decode(reply.body)
            row = appointments.get(told["id"])
            if row is None or row["version"] < told["version"]:
                missing.append(f"{told['id']} version {told['version']}")
                continue
            after = history.get((told["id"], told["version"]))
            people = (str(row["doctor_id"]), str(row["patient_id"]))
            if after != {name: told[name] for name in after or ()} or people != (told["doctorId"], told["patientId"]):
                different.append(f"{told['id']} version {told['version']}")
        if operation.outcome == "refused" and operation.intent.alone:
            last = operation.replies[-1]
            refused.append(f"{operation.intent.kind} {operation.intent.operation} ({last.status} {last.code})")
    return [
        *_found("C1", "acknowledged but not stored", dict.fromkeys(missing), "lost"),
        *_found("C1", "stored otherwise than acknowledged", dict.fromkeys(different), "lost"),
        *_found("C1", "refused though nothing was in the way", refused),
    ]


async def nothing_overlaps(evidence: Evidence) -> list[Finding]:
    """C2."""
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
    return _found("C2", "overlapping", (f"{row['one']} and {row['other']}" for row in rows), "doubled")


async def a_key_books_once(evidence: Evidence) -> list[Finding]:
    """C3. The workload writes the key into the notes."""
    rows = await evidence.booking.fetch(
        "SELECT notes FROM appointments WHERE notes IS NOT NULL GROUP BY notes HAVING count(*) > 1"
    )
    kept = await evidence.booking.fetch("SELECT key, body FROM idempotency_keys")
    bodies = {row["key"]: bytes(row["body"]).decode() for row in kept}
    unequal = []
    for operation in evidence.operations:
        answers = {reply.body for reply in operation.acknowledgements}
        key = operation.intent.key
        if key and answers and answers != {bodies.get(key)}:
            unequal.append(key)
    return [
        *_found("C3", "more than one appointment of the key", (row["notes"] for row in rows), "doubled"),
        *_found("C3", "answers that are not the one kept for the key", unequal),
    ]


async def every_version_is_told_of(evidence: Evidence) -> list[Finding]:
    """C4."""
    found = []
    for table, columns in (
        ("outbox", "aggregateid, version"),
        ("appointment_history", "appointment_id::text, version"),
    ):
        rows = await evidence.booking.fetch(
            f"""
            WITH written (id, version, number) AS (SELECT {columns}, count(*) FROM {table} GROUP BY 1, 2),
                 versions AS (SELECT id::text, v AS version FROM appointments, generate_series(1, version) AS v)
            SELECT coalesce(v.id, w.id) AS id, coalesce(v.version, w.version) AS version, coalesce(number, 0) AS number
            FROM versions v FULL JOIN written w ON w.id = v.id AND w.version = v.version
            WHERE number IS DISTINCT FROM 1 OR v.id IS NULL
            """
        )
        things = (f"{row['id']} version {row['version']} has {row['number']}" for row in rows)
        found += _found("C4", f"not exactly one row in {table}", things)
    return found


async def everybody_is_told_once(evidence: Evidence) -> list[Finding]:
    """C5, and C6: nobody is told of what did not happen."""
    rows = await evidence.booking.fetch("SELECT id, payload FROM outbox WHERE aggregatetype = 'appointment'")
    owed = {(row["id"], UUID(row["payload"][name])) for row in rows for name in ("patientId", "doctorId")}
    grouped = await evidence.mongodb["notifications"].aggregate(
        [{"$group": {"_id": {name: f"${name}" for name in ("eventId", "recipientId", "channel")}, "n": {"$sum": 1}}}]
    )
    told = {
        (one["_id"]["eventId"], one["_id"]["recipientId"], one["_id"]["channel"]): one["n"]
        for one in await grouped.to_list()
    }
    events = {event for event, _ in owed}
    repeated = (f"{event} to {person} by {channel}" for (event, person, channel), n in told.items() if n > 1)
    missing = (f"{event} to {person}" for event, person in sorted(owed) if (event, person, "IN_APP") not in told)
    return [
        *_found("C5", "not told", missing, "lost"),
        *_found("C5", "told more than once", repeated, "doubled"),
        *_found("C6", "told without an event", {str(event) for event, _, _ in told} - {str(event) for event in events}),
    ]


async def readers_are_up_to_date(evidence: Evidence) -> list[Finding]:
    """C7. What the events' readers have made of them is what the writers have."""
    visits = await evidence.booking.fetch("SELECT id, version, status FROM appointments")
    users = await evidence.auth.fetch("SELECT id, version, status FROM users")
    read_by_booking = await evidence.booking.fetch("SELECT id, version, status FROM users")
    known_visits = await evidence.mongodb["appointments"].find({}, {"version": 1, "status": 1}).to_list()
    known_users = await evidence.mongodb["users"].find({}, {"version": 1, "status": 1}).to_list()

    def from_rows(rows: Iterable[Any], name: str = "id") -> set[tuple[UUID, int, str]]:
        return {(row[name], row["version"], row["status"]) for row in rows}

    found = []
    for what, written, read in (
        ("notification's appointments", from_rows(visits), from_rows(known_visits, "_id")),
        ("notification's users", from_rows(users), from_rows(known_users, "_id")),
        ("booking's users", from_rows(users), from_rows(read_by_booking)),
    ):
        behind = sorted({str(id) for id, _, _ in written ^ read})
        found += _found("C7", f"{what} are not as they were written", behind)
    return found


async def nothing_is_left_over(evidence: Evidence) -> list[Finding]:
    """C8."""
    found = []
    for stream in (APPOINTMENTS, USERS):
        if not await evidence.redis.exists(stream.name):
            found.append(Finding("C8", f"there is no {stream.name}"))
            continue
        groups = {group["name"]: group for group in await evidence.redis.xinfo_groups(stream.name)}
        top = (await evidence.redis.xinfo_stream(stream.name))["last-generated-id"]
        for name in stream.groups:
            group = groups.get(name.encode())
            if group is None:
                found.append(Finding("C8", f"{stream.name} has no group {name}"))
            elif group["pending"] or group["last-delivered-id"] != top:
                unread = f"{group['pending']} pending, read to {group['last-delivered-id']!r} of {top!r}"
                found.append(Finding("C8", f"{stream.name} is not done by {name}: {unread}", group["pending"] or 1))
    for service, connection in (("booking", evidence.booking), ("auth", evidence.auth)):
        rows = await connection.fetch("SELECT id FROM outbox WHERE stream_seq IS NULL ORDER BY seq")
        found += _found("C8", f"unpublished events of {service}", (row["id"] for row in rows), "lost")
    letters = await evidence.booking.fetch("SELECT stream, entry_id FROM dead_letters")
    found += _found("C8", "dead letters of booking", (f"{row['stream']} {row['entry_id']}" for row in letters), "lost")
    dead = await evidence.mongodb["dead_letters"].find().to_list()
    undelivered = await evidence.mongodb["notifications"].find({"status": {"$in": ["PENDING", "FAILED"]}}).to_list()
    found += _found("C8", "undelivered", (f"{one['_id']} ({one['status']})" for one in undelivered), "lost")
    letter_names = (f"{one['stream']} {one['entryId']} ({one['error'][:80]})" for one in dead)
    return [*found, *_found("C8", "dead letters of notification", letter_names, "lost")]


def answers_are_proper(evidence: Evidence) -> list[Finding]:
    """C9. An outage is a problem document with a time to come again, never the framework's or a proxy's page."""
    wrong, unmarked, unanswered = [], [], []
    for operation in evidence.operations:
        for reply in operation.replies:
            name = f"operation {operation.intent.operation}: {reply.status} {reply.error or reply.body[:200]}"
            if reply.status == 0:
                unanswered.append(name)
            elif not (200 <= reply.status < 300 or 400 <= reply.status < 500 or reply.status == 503):
                wrong.append(name)
            elif reply.status >= 400 and (
                not reply.content_type.startswith("application/problem+json")
                or reply.code is None
                or (reply.status == 503 and reply.retry_after is None)
            ):
                unmarked.append(name)
    found = [
        *_found("C9", "answers other than 2xx, 4xx and 503", wrong),
        *_found("C9", "errors that are no proper problem document", unmarked),
    ]
    return found if evidence.cuts else [*found, *_found("C9", "no answer", unanswered)]


def logs_are_clean(evidence: Evidence) -> list[Finding]:
    """C10. An outage is a line in the log; a traceback, or a background task that died of it, is a bug."""
    found = []
    for name, text in evidence.logs.items():
        for sign in ("Traceback (most recent call last)", "background task died", "background task returned early"):
            lines = [line for line in text.splitlines() if sign in line]
            if lines:
                found.append(Finding("C10", f"{sign} in {name}: {lines[0][-600:]}", len(lines)))
    return found


async def check(evidence: Evidence) -> list[Finding]:
    return [
        *await acknowledged_is_stored(evidence),
        *await nothing_overlaps(evidence),
        *await a_key_books_once(evidence),
        *await every_version_is_told_of(evidence),
        *await everybody_is_told_once(evidence),
        *await readers_are_up_to_date(evidence),
        *await nothing_is_left_over(evidence),
        *answers_are_proper(evidence),
        *logs_are_clean(evidence),
    ]
