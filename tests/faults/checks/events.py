"""C5 to C8: the events, the notifications that they cause, and the projections of their consumers."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from services.contracts.streams import APPOINTMENTS, USERS, Stream
from tests.faults.checks.evidence import Evidence, Finding, findings


async def every_recipient_is_notified_once(evidence: Evidence) -> list[Finding]:
    """C5. Every event has exactly one notification per recipient and channel. C6. No notification lacks its event."""
    rows = await evidence.booking.fetch("SELECT id, payload FROM outbox WHERE aggregatetype = 'appointment'")
    due = {(row["id"], UUID(row["payload"][name])) for row in rows for name in ("patientId", "doctorId")}
    grouped = await evidence.mongodb["notifications"].aggregate(
        [{"$group": {"_id": {name: f"${name}" for name in ("eventId", "recipientId", "channel")}, "n": {"$sum": 1}}}]
    )
    counts = {
        (one["_id"]["eventId"], one["_id"]["recipientId"], one["_id"]["channel"]): one["n"]
        for one in await grouped.to_list()
    }
    repeated = (f"{event} to {recipient} by {channel}" for (event, recipient, channel), n in counts.items() if n > 1)
    missing = (
        f"{event} to {recipient}" for event, recipient in sorted(due) if (event, recipient, "IN_APP") not in counts
    )
    without_event = {str(event) for event, _, _ in counts} - {str(event) for event, _ in due}
    return [
        *findings("C5", "not notified", missing, "lost"),
        *findings("C5", "notified more than once", repeated, "doubled"),
        *findings("C6", "notifications without an event", without_event),
    ]


async def projections_are_current(evidence: Evidence) -> list[Finding]:
    """C7. The consumers' projections hold the versions and statuses of the database that the events come from."""
    appointments = await evidence.booking.fetch("SELECT id, version, status FROM appointments")
    users = await evidence.auth.fetch("SELECT id, version, status FROM users")
    bookings_users = await evidence.booking.fetch("SELECT id, version, status FROM users")
    fields = {"version": 1, "status": 1}
    notifications_appointments = await evidence.mongodb["appointments"].find({}, fields).to_list()
    notifications_users = await evidence.mongodb["users"].find({}, fields).to_list()

    def states(rows: Iterable[Any], id: str = "id") -> set[tuple[UUID, int, str]]:
        return {(row[id], row["version"], row["status"]) for row in rows}

    found = []
    for projection, source, projected in (
        ("notification's appointments", states(appointments), states(notifications_appointments, "_id")),
        ("notification's users", states(users), states(notifications_users, "_id")),
        ("booking's users", states(users), states(bookings_users)),
    ):
        different = sorted({str(id) for id, _, _ in source ^ projected})
        found += findings("C7", f"{projection} differ from their source", different)
    return found


async def nothing_is_left_over(evidence: Evidence) -> list[Finding]:
    """C8. No event is unpublished or unacknowledged, no message unsent, and there is no dead letter."""
    found = [one for stream in (APPOINTMENTS, USERS) for one in await _unread(evidence, stream)]
    for service, connection in (("booking", evidence.booking), ("auth", evidence.auth)):
        rows = await connection.fetch("SELECT id FROM outbox WHERE stream_seq IS NULL ORDER BY seq")
        found += findings("C8", f"unpublished events of {service}", (row["id"] for row in rows), "lost")
    rows = await evidence.booking.fetch("SELECT stream, entry_id FROM dead_letters")
    letters = (f"{row['stream']} {row['entry_id']}" for row in rows)
    found += findings("C8", "dead letters of booking", letters, "lost")
    unsent = await evidence.mongodb["notifications"].find({"status": {"$in": ["PENDING", "FAILED"]}}).to_list()
    found += findings("C8", "unsent", (f"{one['_id']} ({one['status']})" for one in unsent), "lost")
    dead = await evidence.mongodb["dead_letters"].find().to_list()
    letters = (f"{one['stream']} {one['entryId']} ({one['error'][:80]})" for one in dead)
    return [*found, *findings("C8", "dead letters of notification", letters, "lost")]


async def _unread(evidence: Evidence, stream: Stream) -> list[Finding]:
    if not await evidence.redis.exists(stream.name):
        return [Finding("C8", f"there is no {stream.name}")]
    found = []
    groups = {group["name"]: group for group in await evidence.redis.xinfo_groups(stream.name)}
    top = (await evidence.redis.xinfo_stream(stream.name))["last-generated-id"]
    for name in stream.groups:
        group = groups.get(name.encode())
        if group is None:
            found.append(Finding("C8", f"{stream.name} has no group {name}"))
        elif group["pending"] or group["last-delivered-id"] != top:
            unread = f"{group['pending']} pending, read to {group['last-delivered-id']!r} of {top!r}"
            found.append(Finding("C8", f"{stream.name} is not read by {name}: {unread}", group["pending"] or 1))
    return found
