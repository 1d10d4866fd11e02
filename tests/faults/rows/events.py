"""Streams that carry more than the relay put there: repetitions and poison."""

import asyncio
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import msgspec

from services.contracts.enums import Role
from services.contracts.streams import ALL, APPOINTMENTS
from tests.faults.row import row
from tests.faults.run import Run


@row("17", "the stream replayed twice, shuffled")
async def replay(run: Run) -> None:
    most = None if run.length.long else 500
    async with run.load(share=0.5):
        await asyncio.sleep(1)
        for stream in ALL:
            async with run.platform.servers.database(stream.writer) as connection:
                rows = await connection.fetch(
                    """
                    SELECT id::text, type, aggregateid, version::text, to_json(created_at)#>>'{}' AS created_at,
                           (SELECT p FROM (SELECT payload::text AS p) AS text) AS payload
                    FROM outbox WHERE stream_seq IS NOT NULL ORDER BY random() LIMIT $1
                    """,
                    most,
                )
            entries = [dict(row) for row in rows] * 2
            run.random.shuffle(entries)
            for entry in entries:
                await run.platform.append(stream, entry)
            run.uncounted_faults += len(entries)


@row("18", "poison: bad JSON, unknown type, 1 MB, the future, unknown users")
async def poison(run: Run) -> None:
    added: dict[str, str] = {}  # what is wrong with an entry, by the entry's id
    async with run.load():
        async for number in run.instants(every_seconds=1.6):
            name, payload = list(_POISON.items())[number % len(_POISON)]
            async with run.fault(name):
                entry_id = await run.platform.append(APPOINTMENTS, _entry(payload))
            added[entry_id] = name
    since = run.faults[0].began_at
    letters = run.platform.documents["dead_letters"]
    deadline = monotonic() + 60
    while await letters.count_documents({}) < len(added) and monotonic() < deadline:
        await asyncio.sleep(0.2)
    dead = {letter["entryId"] for letter in await letters.find().to_list()}
    missing = [f"{name} ({entry_id})" for entry_id, name in added.items() if entry_id not in dead]
    run.require(not missing, f"not dead-lettered within 60 s: {', '.join(missing)}")
    replayable = [entry_id for entry_id, name in added.items() if name == "unknown users"]
    await _replay(run, await letters.find({"entryId": {"$in": replayable}}).to_list())
    await letters.delete_many({"entryId": {"$in": list(added)}})
    delays = await _delays(run, since)
    run.note(f"{len(delays)} other notifications, the slowest written after {max(delays):.2f} s")
    run.within(max(delays) < 1, f"another notification was delayed by {max(delays):.1f} s")


async def _replay(run: Run, letters: list[dict[str, Any]]) -> None:
    """Register the unknown users, replay the events that failed for want of them, and require their effect."""
    deployment, documents = run.platform.deployment, run.platform.documents
    await deployment.register(Role.PATIENT, [_UNKNOWN["patientId"]])
    await deployment.register(Role.DOCTOR, [_UNKNOWN["doctorId"]])
    headers = {"Authorization": f"Bearer {deployment.token(uuid4(), Role.ADMIN)}"}
    for letter in letters:
        path = f"/api/notifications/dead-letters/{letter['_id']}/replay"
        for _ in range(2):
            answer = await run.client.send("notification", "POST", path, headers)
            run.require(answer.status == 200, f"replay: {answer.status} {answer.body[:200]!r}")
        event = {"eventId": UUID(letter["fields"]["id"])}
        number = await documents["notifications"].count_documents(event)
        run.require(number == 2, f"{number} notifications of an event that was replayed twice, for two recipients")
        # Booking never wrote this event, so C6 would report what it caused.
        await documents["notifications"].delete_many(event)
    await documents["appointments"].delete_many({"_id": _UNKNOWN["appointmentId"]})


async def _delays(run: Run, since: float) -> list[float]:
    """Return the seconds from each later event to its notifications, by PostgreSQL's clock and by notification's."""
    async with run.platform.servers.database("booking") as connection:
        rows = await connection.fetch("SELECT id, created_at FROM outbox WHERE created_at > to_timestamp($1)", since)
    written = {row["id"]: row["created_at"] for row in rows}
    notifications = run.platform.documents["notifications"].find({"eventId": {"$in": list(written)}})
    return [(one["createdAt"] - written[one["eventId"]]).total_seconds() for one in await notifications.to_list()]


def _entry(payload: str) -> dict[str, str]:
    return {
        "id": str(uuid4()),
        "type": "AppointmentCreated",
        "aggregateid": str(uuid4()),
        "version": "1",
        "payload": payload,
        "created_at": "2026-11-23T09:00:00Z",
    }


_UNKNOWN = {name: uuid4() for name in ("appointmentId", "patientId", "doctorId")}


def _payload(**other: Any) -> str:
    """Return the payload of an appointment whose doctor and patient have no account."""
    valid = {
        **_UNKNOWN,
        "type": "AppointmentCreated",
        "startsAt": "2026-12-01T09:00:00Z",
        "endsAt": "2026-12-01T09:30:00Z",
        "timeZone": "UTC",
        "status": "PENDING",
        "version": 1,
    }
    return msgspec.json.encode({**valid, **other}).decode()


_POISON = {
    "bad JSON": '{"type": "AppointmentCreated"',
    "unknown type": _payload(type="AppointmentForgotten"),
    "1 MB": "x" * 2**20,
    "a future status": _payload(status="RESERVED", version=2),
    "unknown users": _payload(),
}
