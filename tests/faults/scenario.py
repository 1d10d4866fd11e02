"""One booked appointment and its two notifications, as the stores hold them and a client saw them."""

from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from redis.asyncio import Redis
from uuid_utils.compat import uuid7

from services.contracts.streams import ALL
from tests.faults.checks.every import check
from tests.faults.checks.evidence import Evidence
from tests.faults.ledger import Entry, Intent, Ledger, Reply, Verdict, read

STATE = {
    "status": "PENDING",
    "dateTime": "2030-01-07T09:00:00Z",
    "durationMinutes": 30,
    "timeZone": "UTC",
    "notes": "key-1",
    "overbooked": False,
    "cancellationReason": None,
}


class Scenario(NamedTuple):
    booking: asyncpg.Connection
    auth: asyncpg.Connection
    mongodb: Any
    redis: Redis
    entries: list[Entry]
    logs: dict[str, str]
    appointment: UUID
    event: UUID
    patient: UUID
    doctor: UUID
    ledger: Path

    async def prepare(self) -> None:
        """Fill the stores and the ledger."""
        added = await self.add_appointment()
        await self.booking.execute("UPDATE appointments SET id = $1 WHERE id = $2", self.appointment, added)
        await self.booking.execute(
            "INSERT INTO appointment_history (appointment_id, version, changed_at, actor_id, actor_role, changes)"
            " VALUES ($1, 1, now(), $2, 'PATIENT', $3)",
            self.appointment,
            self.patient,
            STATE,
        )
        await self.add_event(self.event, 1)
        await self.booking.execute(
            """
            INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status, location, etag, body)
            VALUES ($1, 'POST /api/appointments', 'key-1', '', 201, '', '', $2)
            """,
            self.patient,
            self.answer().body.encode(),
        )
        for recipient in (self.patient, self.doctor):
            await self.notify(self.event, recipient)
        await self.mongodb["appointments"].insert_one({"_id": self.appointment, "version": 1, "status": "PENDING"})
        for stream in ALL:
            for group in stream.groups:
                await self.redis.xgroup_create(stream.name, group, id="0", mkstream=True)
        self.entries.extend(
            [
                Intent(operation=0, at=1.0, kind="book", caller=self.patient, body={}, key="key-1"),
                self.answer(),
                Verdict(operation=0, at=1.1, outcome="ok"),
            ]
        )

    async def add_appointment(self, *, minutes_later: int = 0, patient: UUID | None = None) -> UUID:
        appointment = uuid7()
        await self.booking.execute(
            """
            INSERT INTO appointments (id, doctor_id, patient_id, status, during, blocked, overbooked, time_zone,
                                      wall_time, tzdata_version, notes, version, created_at, updated_at)
            SELECT $1, $2, $3, 'PENDING', slot, slot, false, 'UTC', lower(slot) AT TIME ZONE 'UTC', 'none', 'key-1', 1,
                   now(), now()
            FROM (SELECT tstzrange(at, at + interval '30 minutes') AS slot
                  FROM (SELECT timestamptz '2030-01-07T09:00Z' + $4::int * interval '1 minute' AS at) AS a) AS s
            """,
            appointment,
            self.doctor,
            patient or self.patient,
            minutes_later,
        )
        return appointment

    async def add_event(self, event: UUID, version: int) -> None:
        payload = {"patientId": str(self.patient), "doctorId": str(self.doctor)}
        await self.booking.execute(
            """
            INSERT INTO outbox (id, aggregatetype, aggregateid, type, version, payload, stream_seq)
            VALUES ($1, 'appointment', $2, 'AppointmentCreated', $3::int, $4, $3::int)
            """,
            event,
            str(self.appointment),
            version,
            payload,
        )

    async def notify(self, event: UUID, recipient: UUID, channel: str = "IN_APP", **more: Any) -> None:
        notification = {"_id": uuid7(), "eventId": event, "recipientId": recipient, "channel": channel, **more}
        await self.mongodb["notifications"].insert_one(notification)

    def answer(self, **other: Any) -> Reply:
        body = {"id": str(self.appointment), "doctorId": str(self.doctor), "patientId": str(self.patient), "version": 1}
        reply: dict[str, Any] = {"status": 201, "body": msgspec.json.encode({**body, **STATE}).decode()}
        return Reply(operation=0, sent_at=1.0, at=1.1, replica="booking-0", **{**reply, **other})

    async def complaints(self) -> set[str]:
        """Run all checks, and return the names of those that complain."""
        ledger = Ledger(self.ledger)
        for entry in self.entries:
            await ledger.write(entry)
        ledger.close()
        evidence = Evidence(read(self.ledger), self.booking, self.auth, self.mongodb, self.redis, self.logs)
        return {finding.check for finding in await check(evidence)}
