"""The checks themselves: silent about a world in order, and each of them loud about what it is there for."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import pymongo
import pytest
from redis.asyncio import Redis
from uuid_utils.compat import uuid7

from services.contracts.streams import APPOINTMENTS, USERS
from tests.faults.checks import Evidence, check
from tests.faults.ledger import Entry, Intent, Ledger, Reply, Verdict, read
from tests.faults.platform import database
from tests.support.databases import CloneDatabase, ServerUrls

_TABLES = "appointments, appointment_history, outbox, idempotency_keys, users, dead_letters"
_VISIT = {
    "status": "PENDING",
    "dateTime": "2030-01-07T09:00:00Z",
    "durationMinutes": 30,
    "timeZone": "UTC",
    "notes": "key-1",
    "overbooked": False,
    "cancellationReason": None,
}


class World(NamedTuple):
    """One booked visit of which both people were told, as all stores and the client saw it."""

    booking: asyncpg.Connection
    auth: asyncpg.Connection
    mongodb: Any
    redis: Redis
    entries: list[Entry]
    logs: dict[str, str]
    visit: UUID
    event: UUID
    patient: UUID
    doctor: UUID
    folder: Path

    async def add_visit(self, *, minutes_later: int = 0, patient: UUID | None = None) -> UUID:
        visit = uuid7()
        await self.booking.execute(
            """
            INSERT INTO appointments (id, doctor_id, patient_id, status, during, blocked, overbooked, time_zone,
                                      wall_time, tzdata_version, notes, version, created_at, updated_at)
            SELECT $1, $2, $3, 'PENDING', slot, slot, false, 'UTC', lower(slot) AT TIME ZONE 'UTC', 'none', 'key-1', 1,
                   now(), now()
            FROM (SELECT tstzrange(at, at + interval '30 minutes') AS slot
                  FROM (SELECT timestamptz '2030-01-07T09:00Z' + $4::int * interval '1 minute' AS at) AS a) AS s
            """,
            visit,
            self.doctor,
            patient or self.patient,
            minutes_later,
        )
        return visit

    async def add_event(self, event: UUID, version: int) -> None:
        payload = {"patientId": str(self.patient), "doctorId": str(self.doctor)}
        await self.booking.execute(
            """
            INSERT INTO outbox (id, aggregatetype, aggregateid, type, version, payload, stream_seq)
            VALUES ($1, 'appointment', $2, 'AppointmentCreated', $3::int, $4, $3::int)
            """,
            event,
            str(self.visit),
            version,
            payload,
        )

    async def tell(self, event: UUID, person: UUID) -> None:
        await self.mongodb["notifications"].insert_one(
            {"_id": uuid7(), "eventId": event, "recipientId": person, "channel": "IN_APP"}
        )

    def answer(self, **other: Any) -> Reply:
        body = {"id": str(self.visit), "doctorId": str(self.doctor), "patientId": str(self.patient), "version": 1}
        reply: dict[str, Any] = {"status": 201, "body": msgspec.json.encode({**body, **_VISIT}).decode()}
        return Reply(operation=0, sent_at=1.0, at=1.1, replica="booking-0", **{**reply, **other})

    async def complaints(self) -> set[str]:
        ledger = Ledger(self.folder / "ledger.jsonl")
        for entry in self.entries:
            await ledger.write(entry)
        ledger.close()
        operations = read(ledger.path)
        evidence = Evidence(operations, self.booking, self.auth, self.mongodb, self.redis, self.logs)
        return {finding.check for finding in await check(evidence)}


@pytest.fixture(scope="module")
async def urls(clone_database: CloneDatabase, worker_id: str, servers: ServerUrls) -> dict[str, str]:
    await clone_database("booking", f"booking_faults_{worker_id}")
    await clone_database("auth", f"auth_faults_{worker_id}")
    return {name: f"{servers.postgres.rpartition('/')[0]}/{name}_faults_{worker_id}" for name in ("booking", "auth")}


@pytest.fixture
async def world(
    urls: dict[str, str], servers: ServerUrls, redis_of: Callable[[str], str], worker_id: str, tmp_path: Path
) -> AsyncIterator[World]:
    client = pymongo.AsyncMongoClient[dict[str, Any]](servers.mongodb, uuidRepresentation="standard")
    name = f"faults_{worker_id}"
    async with (
        database(urls["booking"]) as booking,
        database(urls["auth"]) as auth,
        Redis.from_url(redis_of("faults")) as redis,
        client,
    ):
        await booking.execute(f"TRUNCATE {_TABLES}")
        await client.drop_database(name)
        await redis.flushdb()
        event, visit, patient, doctor = (uuid7() for _ in range(4))
        world = World(booking, auth, client[name], redis, [], {}, visit, event, patient, doctor, tmp_path)
        await put_in_order(world)
        yield world


async def put_in_order(world: World) -> None:
    made = await world.add_visit()
    await world.booking.execute("UPDATE appointments SET id = $1 WHERE id = $2", world.visit, made)
    await world.booking.execute(
        "INSERT INTO appointment_history VALUES ($1, 1, now(), $2, 'PATIENT', NULL, NULL, $3)",
        world.visit,
        world.patient,
        _VISIT,
    )
    await world.add_event(world.event, 1)
    await world.booking.execute(
        """
        INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status, location, etag, body)
        VALUES ($1, 'POST /api/appointments', 'key-1', '', 201, '', '', $2)
        """,
        world.patient,
        world.answer().body.encode(),
    )
    for person in (world.patient, world.doctor):
        await world.tell(world.event, person)
    await world.mongodb["appointments"].insert_one({"_id": world.visit, "version": 1, "status": "PENDING"})
    for stream in (APPOINTMENTS, USERS):
        for group in stream.groups:
            await world.redis.xgroup_create(stream.name, group, id="0", mkstream=True)
    world.entries.extend(
        [
            Intent(operation=0, at=1.0, kind="book", caller=world.patient, body={}, key="key-1"),
            world.answer(),
            Verdict(operation=0, at=1.1, outcome="ok"),
        ]
    )


async def test_nothing_is_said_of_a_world_in_order(world: World) -> None:
    assert await world.complaints() == set()


async def the_visit_is_gone(world: World) -> None:
    await world.booking.execute("DELETE FROM appointment_history; DELETE FROM appointments; DELETE FROM outbox")
    await world.mongodb.client.drop_database(world.mongodb.name)


async def its_time_is_another(world: World) -> None:
    other = {**_VISIT, "dateTime": "2030-01-07T10:00:00Z"}
    await world.booking.execute("UPDATE appointment_history SET after = $1", other)


async def it_was_refused_for_nothing(world: World) -> None:
    refusal = world.answer(status=409, body='{"code": "slot_taken"}', content_type="application/problem+json")
    del world.entries[1:]
    world.entries.extend([refusal, Verdict(operation=0, at=1.1, outcome="refused")])


async def the_doctor_has_another(world: World) -> None:
    await world.booking.execute("ALTER TABLE appointments DROP CONSTRAINT appointment_doctor_no_overlap")
    await world.add_visit(minutes_later=15, patient=uuid7())


async def the_patient_has_another(world: World) -> None:
    await world.booking.execute("ALTER TABLE appointments DROP CONSTRAINT appointment_patient_no_overlap")
    other = await world.add_visit(minutes_later=60)
    await world.booking.execute(
        """
        UPDATE appointments SET doctor_id = $2, during = taken.during, blocked = taken.blocked
        FROM (SELECT during, blocked FROM appointments WHERE id = $3) AS taken WHERE id = $1
        """,
        other,
        uuid7(),
        world.visit,
    )


async def the_key_booked_twice(world: World) -> None:
    await world.add_visit(minutes_later=60)


async def the_key_was_answered_twice(world: World) -> None:
    world.entries.insert(2, world.answer(body=world.answer().body.replace("key-1", "key 1")))


async def no_event_was_written(world: World) -> None:
    await world.booking.execute("DELETE FROM outbox")


async def two_events_were_written(world: World) -> None:
    await world.booking.execute(
        """
        INSERT INTO outbox (id, aggregatetype, aggregateid, type, version, payload, stream_seq)
        SELECT gen_random_uuid(), aggregatetype, aggregateid, type, version, payload, 2 FROM outbox
        """
    )


async def no_history_was_written(world: World) -> None:
    await world.booking.execute("DELETE FROM appointment_history")


async def the_doctor_was_not_told(world: World) -> None:
    await world.mongodb["notifications"].delete_one({"recipientId": world.doctor})


async def the_patient_was_told_twice(world: World) -> None:
    await world.tell(world.event, world.patient)


async def somebody_was_told_of_nothing(world: World) -> None:
    await world.tell(uuid7(), world.patient)


async def a_reader_is_behind(world: World) -> None:
    await world.mongodb["appointments"].update_one({}, {"$set": {"version": 0}})


async def a_user_is_unknown_to_the_others(world: World) -> None:
    await world.booking.execute("INSERT INTO users VALUES ($1, 'PATIENT', 'ACTIVE', 'Bo', 'UTC', 1)", world.patient)


async def an_event_is_unread(world: World) -> None:
    await world.redis.xadd(APPOINTMENTS.name, {"id": "x"}, id="1-0")


async def an_event_is_not_acknowledged(world: World) -> None:
    await an_event_is_unread(world)
    await world.redis.xreadgroup("notification", "somebody", {APPOINTMENTS.name: ">"})


async def a_group_is_gone(world: World) -> None:
    await world.redis.xgroup_destroy(USERS.name, "booking")


async def the_stream_is_gone(world: World) -> None:
    await world.redis.delete(APPOINTMENTS.name)


async def an_event_is_unpublished(world: World) -> None:
    await world.booking.execute("UPDATE outbox SET stream_seq = NULL")


async def a_letter_is_dead(world: World) -> None:
    await world.mongodb["dead_letters"].insert_one({"stream": "s", "entryId": "1-0", "error": "e"})


async def a_letter_is_dead_in_booking(world: World) -> None:
    await world.booking.execute(
        "INSERT INTO dead_letters VALUES (gen_random_uuid(), 's', 'g', '1-0', 'failing', 'e', '{}')"
    )


async def an_email_is_undelivered(world: World) -> None:
    email = {"_id": uuid7(), "eventId": world.event, "recipientId": world.patient, "channel": "EMAIL"}
    await world.mongodb["notifications"].insert_one({**email, "status": "PENDING"})


async def somebody_saw_a_500(world: World) -> None:
    world.entries.insert(1, world.answer(status=500, body='{"code": "internal_error"}'))


async def somebody_saw_a_page(world: World) -> None:
    world.entries.insert(1, world.answer(status=503, body="<html>", content_type="text/html", retry_after="1"))


async def nobody_was_told_when_to_come_again(world: World) -> None:
    body = '{"code": "unavailable"}'
    world.entries.insert(1, world.answer(status=503, body=body, content_type="application/problem+json"))


async def somebody_got_no_answer(world: World) -> None:
    world.entries.insert(1, world.answer(status=0, body="", error="connection lost"))


async def a_log_has_a_traceback(world: World) -> None:
    world.logs["booking-0"] = '{"exception": "Traceback (most recent call last):\\n  File ..."}'


async def a_task_died(world: World) -> None:
    world.logs["booking-0"] = '{"event": "background task died", "task": "relay"}'


_DOCTORED: list[tuple[str, Callable[[World], Awaitable[None]]]] = [
    ("C1", the_visit_is_gone),
    ("C1", its_time_is_another),
    ("C1", it_was_refused_for_nothing),
    ("C2", the_doctor_has_another),
    ("C2", the_patient_has_another),
    ("C3", the_key_booked_twice),
    ("C3", the_key_was_answered_twice),
    ("C4", no_event_was_written),
    ("C4", two_events_were_written),
    ("C4", no_history_was_written),
    ("C5", the_doctor_was_not_told),
    ("C5", the_patient_was_told_twice),
    ("C6", somebody_was_told_of_nothing),
    ("C7", a_reader_is_behind),
    ("C7", a_user_is_unknown_to_the_others),
    ("C8", an_event_is_unread),
    ("C8", an_event_is_not_acknowledged),
    ("C8", a_group_is_gone),
    ("C8", the_stream_is_gone),
    ("C8", an_event_is_unpublished),
    ("C8", a_letter_is_dead),
    ("C8", a_letter_is_dead_in_booking),
    ("C8", an_email_is_undelivered),
    ("C9", somebody_saw_a_500),
    ("C9", somebody_saw_a_page),
    ("C9", nobody_was_told_when_to_come_again),
    ("C9", somebody_got_no_answer),
    ("C10", a_log_has_a_traceback),
    ("C10", a_task_died),
]


@pytest.mark.parametrize(("name", "doctor"), _DOCTORED, ids=lambda value: getattr(value, "__name__", value))
async def test_a_check_complains(world: World, name: str, doctor: Callable[[World], Awaitable[None]]) -> None:
    transaction = world.booking.transaction()
    await transaction.start()
    try:
        await doctor(world)
        assert name in await world.complaints()
    finally:
        await transaction.rollback()
