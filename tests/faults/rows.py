"""The rows of the matrix. Each is a few lines over `Run`, whose C1 to C10 are checked after every one of them."""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import pairwise
from math import inf
from statistics import quantiles
from time import monotonic, time
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import msgspec

from services.contracts.enums import Role
from services.contracts.streams import APPOINTMENTS, USERS
from tests.faults.front import Answer
from tests.faults.ledger import Operation
from tests.faults.run import Row, Run
from tests.support.mail_server import MailServer
from tests.support.proxy import Proxy

ROWS: dict[str, Row] = {}

_AVAILABLE_SECONDS = 10.0
# A p99 of some hundred requests on a machine that does other things too moves by itself.
_NOISE_SECONDS = 0.05
_GROWTH_MIB = 32
_UNSENT = {"channel": "EMAIL", "status": {"$ne": "SENT"}}
_STORMS = (32, 64, 128)
_LEAST_STORMS = 4
# A quarter of a second, or on a slow machine the time of the three or four statements that a refusal takes. Writers who
# queue up behind each other take a second and more.
_STORM_SECONDS, _STORM_READS = 0.25, 5
_UNSEEN = "booking_unseen_conflicts_total"
_LEAST_RACES = 10
_FREE_GUESSES = 5  # of a password, before the first pause


def row(name: str, title: str, *, cuts: bool = False) -> Callable[[Callable[[Run], Awaitable[None]]], None]:
    def add(play: Callable[[Run], Awaitable[None]]) -> None:
        ROWS[name] = Row(name, title, play, cuts)

    return add


def _availability(operations: list[Operation]) -> float:
    """The share of those that had a definite answer soon, their own repetitions included."""
    soon = sum(
        one.verdict is not None and one.outcome != "unknown" and one.verdict.at - one.intent.at <= _AVAILABLE_SECONDS
        for one in operations
    )
    return soon / len(operations) if operations else 0.0


@row("1", "kill -9 one of two booking workers", cuts=True)
async def one_booking_worker(run: Run) -> None:
    async with run.load():
        async for number in run.instants(every_seconds=5):
            async with run.fault("kill -9"):
                run.platform.replicas("booking")[number % 2].kill()
    available = _availability(await run.settled())
    run.note(f"available {available:.2%}")
    run.within(available >= 0.99, f"only {available:.2%} had an answer within {_AVAILABLE_SECONDS:.0f} s")


@row("2", "kill -9 all booking workers", cuts=True)
async def all_booking_workers(run: Run) -> None:
    async with run.load():
        async for _ in run.instants(every_seconds=5):
            async with run.fault("kill -9"):
                for replica in run.platform.replicas("booking"):
                    replica.kill()
    unknown = sum(one.outcome == "unknown" for one in await run.settled())
    run.require(unknown == 0, f"{unknown} never learnt what became of their request")


@row("11", "PostgreSQL kill -9, restart", cuts=True)
async def postgres_crash(run: Run) -> None:
    async with run.load():
        async for _ in run.instants(every_seconds=5):
            async with run.fault("kill -9"):
                await run.platform.kill(run.platform.postgres)
            await run.platform.start(run.platform.postgres)
    recovery = run.longest_recovery(await run.settled())
    run.within(recovery <= 30, f"{recovery:.1f} s until the next acknowledgement")


@row("3", "crash after COMMIT, before the reply", cuts=True)
async def committed_but_unanswered(run: Run) -> None:
    async with run.failpoint("booking", "committed=0.02"), run.load():
        pass
    repeated = [
        one
        for one in await run.settled()
        if one.intent.kind == "book" and any(reply.replayed for reply in one.acknowledgements)
    ]
    run.note(f"{len(repeated)} had the first answer again")
    run.require(bool(repeated), "nobody had to ask for the first answer again, which proves nothing")


@row("4", "relay killed between XADD and mark", cuts=True)
async def appended_but_not_marked(run: Run) -> None:
    async with run.tapped(APPOINTMENTS.name) as seen:
        async with run.failpoint("booking", "appended=0.02"), run.load():
            pass
        await run.rest()
    repeated = sum(number - 1 for number in seen.values())
    run.note(f"{repeated} of {seen.total()} entries of the stream were repetitions")
    run.require(repeated > 0, "no event came twice, which proves nothing")


@row("5", "consumer killed after the write, before the ack")
async def handled_but_not_acknowledged(run: Run) -> None:
    async with run.failpoint("notification", "handled=0.02"), run.load():
        pass
    seconds = await run.rest()
    run.within(seconds <= 60, f"{seconds:.0f} s until others had claimed everything")


@row("5b", "delivery killed between SMTP's 250 and the mark")
async def accepted_but_not_marked(run: Run) -> None:
    sink = MailServer()
    await sink.start()
    accepted: dict[str, list[float]] = {}

    def note() -> None:
        accepted.setdefault(sink.taken[-1]["Message-ID"], []).append(time())

    sink.accepting = note
    settings = {"SMTP_URL": sink.url, "MAIL_FROM": "clinic@example.com", "SMTP_TIMEOUT_SECONDS": "3"}
    emails = run.platform.documents["notifications"]
    try:
        async with run.failpoint("notification", "accepted=0.03", **settings), run.load(share=0.2):
            pass
        await run.settled()
        # What its sender left is due again when the lease of four send time-outs is over.
        run.require(await run.platform.quiet(60), "not everybody is told after 60 s")
        deadline = monotonic() + 60
        while await emails.count_documents(_UNSENT) and monotonic() < deadline:
            await asyncio.sleep(0.2)
    finally:
        await sink.stop()
    sent = await emails.count_documents({"channel": "EMAIL"})
    repeated = {name: times for name, times in accepted.items() if len(times) > 1}
    run.note(f"{sent} e-mails, {len(repeated)} left more than once")
    run.require(len(accepted) == sent, f"{len(accepted)} messages for {sent} e-mails")
    run.require(bool(repeated), "no message left twice, which proves nothing")
    deaths = [fault.began_at for fault in run.faults]
    unexcused = [
        name
        for name, times in repeated.items()
        for first, again in pairwise(times)
        if not any(first <= died_at <= again for died_at in deaths)
    ]
    run.require(not unexcused, f"left again though no sender had died: {unexcused[:3]}")


@row("6", "consumer killed before the write")
async def received_but_not_handled(run: Run) -> None:
    async with run.failpoint("notification", "received=0.02"), run.load():
        pass


@row("7", "Redis killed, restarted with its AOF")
async def redis_crash(run: Run) -> None:
    async with run.load():
        async for _ in run.instants(every_seconds=6):
            async with run.fault("kill -9"):
                await run.platform.kill(run.platform.redis)
                await asyncio.sleep(run.chance.uniform(0.5, 2))
            await run.platform.start(run.platform.redis)
    _served_meanwhile(run, await run.settled())


def _served_meanwhile(run: Run, operations: list[Operation]) -> None:
    since = run.faults[0].began_at
    refused = [reply for one in operations for reply in one.replies if reply.status == 503 and reply.sent_at >= since]
    # Booking does not need what is away; a 503 is a limit of its own, a second, that passed.
    run.within(not refused, f"{len(refused)} answers of booking were 503: {refused[:1]}")


@row("8", "Redis emptied, replaced by an empty one, AOF cut")
async def redis_loses_data(run: Run) -> None:
    platform = run.platform

    async def flush() -> None:
        await platform.stream.flushall()

    async def cut() -> None:
        await platform.cut_redis_log(run.chance.randrange(1, 20_000))

    ways = {"FLUSHALL": flush, "replaced": platform.empty_redis, "AOF cut": cut}
    before = 0
    async with run.load():
        async for number in run.instants(every_seconds=2.6):
            name = list(ways)[number % len(ways)]
            email = f"{uuid4().hex}@example.com"
            for _ in range(_FREE_GUESSES):
                await run.guess(email)
            # So that there is something unread to lose.
            for reader in platform.replicas("notification"):
                reader.send(signal.SIGSTOP)
            await asyncio.sleep(0.5)
            async with platform.database("booking") as booking:
                before = await booking.fetchval("SELECT max(stream_seq) FROM outbox")
            async with run.fault(name):
                await ways[name]()
            for reader in platform.replicas("notification"):
                reader.send(signal.SIGCONT)
            guesses = [await run.guess(email) for _ in range(2)]
            run.require(429 in guesses, f"after {name} guesses of a password are answered again: {guesses}")
    await run.booked()
    await run.rest()
    top = (await platform.stream.xinfo_stream(APPOINTMENTS.name))["last-generated-id"].decode()
    run.require(int(top.partition("-")[0]) > before, f"ids go on at {top}, though {before} was given before")
    _served_meanwhile(run, await run.settled())


@row("9", "Redis down, then frozen")
async def redis_away(run: Run) -> None:
    hold = 60.0 if run.length.long else 3.0
    async with run.load(seconds=max(run.seconds, 3 * hold)):
        await asyncio.sleep(hold)
        async with run.fault("down"):
            await run.platform.kill(run.platform.redis)
            await asyncio.sleep(hold / 2)
        await run.platform.start(run.platform.redis)
        async with run.fault("frozen"), run.platform.frozen(run.platform.redis):
            await asyncio.sleep(hold / 2)
    seconds = await run.rest()
    run.within(seconds <= 60, f"{seconds:.0f} s until it was drained")
    operations = await run.settled()
    _served_meanwhile(run, operations)
    usual, during = _latencies(run, operations)
    run.note(f"p99 {usual * 1000:.0f} ms before, {during * 1000:.0f} ms during")
    run.within(during <= max(1.2 * usual, usual + _NOISE_SECONDS), f"p99 rose from {usual:.3f} s to {during:.3f} s")


def _latencies(run: Run, operations: list[Operation]) -> tuple[float, float]:
    """p99 of bookings before the first fault, and during faults."""
    usual, during = [], []
    for one in operations:
        for reply in one.replies:
            if one.intent.kind != "book":
                continue
            if reply.sent_at < run.faults[0].began_at:
                usual.append(reply.seconds)
            elif any(fault.began_at <= reply.sent_at <= fault.ended_at for fault in run.faults):
                during.append(reply.seconds)
    return p99(usual), p99(during)


def p99(seconds: list[float]) -> float:
    return quantiles(seconds, n=100, method="inclusive")[98] if len(seconds) > 1 else 0.0


@row("10", "MongoDB down, then slow")
async def mongodb_away(run: Run) -> None:
    link = await run.platform.link("notification", "mongodb")
    await run.configure({"notification": {"MONGODB_URL": link.url}})
    hold = 60.0 if run.length.long else 4.0
    reader = run.platform.people.patients[0]
    answers = []
    async with run.load(seconds=max(run.seconds, 2.5 * hold)):
        async with run.fault("down"):
            await run.platform.kill(run.platform.mongodb)
            ends_at = monotonic() + hold
            while monotonic() < ends_at:
                answers.append(await run.get("notification", f"/api/notifications/{reader}", reader))
                await asyncio.sleep(0.2)
        await run.platform.start(run.platform.mongodb)
        async with run.fault("slow"):
            link.delay_seconds = 0.15
            await asyncio.sleep(hold)
            link.heal()
    run.require(all(answer.status == 503 for answer in answers), "reading was answered without a store")
    improper = [one for one in answers if not _is_proper_refusal(one)]
    run.require(not improper, f"improper answer while MongoDB is down: {improper[:1]}")
    longest = max(answer.seconds for answer in answers)
    run.within(longest <= 3, f"an answer took {longest:.1f} s")
    _served_meanwhile(run, await run.settled())


def _is_proper_refusal(answer: Answer) -> bool:
    return (
        answer.status == 503
        and answer.headers.get("content-type") == "application/problem+json"
        and "retry-after" in answer.headers
    )


@row("13", "PostgreSQL frozen; pool exhausted")
async def postgres_hangs(run: Run) -> None:
    platform = run.platform
    hold = 20.0 if run.length.long else 4.0
    replicas = platform.replicas("booking")
    memory = [replica.resident_bytes for replica in replicas]
    async with run.load(seconds=max(run.seconds, 2 * hold + 8)):
        await asyncio.sleep(1)
        async with run.fault("frozen"), platform.frozen(platform.postgres):
            await asyncio.sleep(hold)
        await asyncio.sleep(5)
        async with platform.database("booking") as connection, connection.transaction(), run.fault("exhausted"):
            # Whoever writes waits for this, with a connection of the pool in hand, until none is left.
            await connection.execute("LOCK TABLE appointments IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(hold / 2)
    operations = await run.settled()
    replies = [reply for one in operations for reply in one.replies]
    refusals = [reply for reply in replies if reply.status == 503]
    run.require(bool(refusals), "nobody was refused, which proves nothing")
    longest = max(reply.seconds for reply in replies)
    growth = max(now.resident_bytes - before for now, before in zip(replicas, memory, strict=True)) / 2**20
    recovery = run.longest_recovery(operations)
    run.note(f"{len(refusals)} answers were 503, the longest answer took {longest:.2f} s, memory grew {growth:.0f} MiB")
    run.within(longest <= 3, f"an answer took {longest:.1f} s")
    run.require(growth <= _GROWTH_MIB, f"memory grew by {growth:.0f} MiB")
    run.within(recovery <= 5, f"{recovery:.1f} s until the next acknowledgement")


@row("14", "40001 and 40P01 at a statement and at COMMIT")
async def serialization_failures(run: Run) -> None:
    await run.platform.execute(
        """
        CREATE SEQUENCE IF NOT EXISTS raised;
        CREATE OR REPLACE FUNCTION fail_at_random() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            IF random() < 0.15 THEN
                -- A sequence keeps its value where the transaction is rolled back.
                PERFORM nextval('raised');
                IF random() < 0.5 THEN RAISE EXCEPTION 'at random' USING ERRCODE = '40001'; END IF;
                RAISE EXCEPTION 'at random' USING ERRCODE = '40P01';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER at_statement BEFORE INSERT OR UPDATE ON appointments
            FOR EACH ROW EXECUTE FUNCTION fail_at_random();
        CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE ON appointments DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION fail_at_random();
        """
    )
    try:
        async with run.load():
            pass
        await run.settled()
        async with run.platform.database("booking") as connection:
            raised = await connection.fetchval("SELECT last_value FROM raised")
    finally:
        await run.platform.execute(
            "DROP TRIGGER at_statement ON appointments; DROP TRIGGER at_commit ON appointments; DROP SEQUENCE raised"
        )
    run.other_faults += raised


@row("15", "hot-slot storm: 32, 64, 128 clients")
async def storm(run: Run) -> None:
    replicas = run.platform.replicas("booking")
    for replica in replicas:
        await run.platform.front.warm(replica, 64)
    await run.warm()
    await _storm(run, 64, overlapping=False)  # a connection prepares its statements when they are first used
    ends_at = monotonic() + (run.seconds if run.length.long else 0)
    reads = {clients: p99(await _reads(run, clients)) for clients in _STORMS}
    decided = await run.metric("booking", _UNSEEN)
    seconds: dict[int, list[float]] = {clients: [] for clients in _STORMS}
    turn = 0
    while turn < _LEAST_STORMS or monotonic() < ends_at:
        turn += 1
        for clients in _STORMS:
            answers = await _storm(run, clients, overlapping=turn % 2 == 0)
            seconds[clients] += [answer.seconds for answer in answers]
            codes = Counter("ok" if one.status == 201 else f"{one.status} {_code(one)}" for one in answers)
            run.require(codes == {"ok": 1, "409 slot_taken": clients - 1}, f"{clients} clients got {dict(codes)}")
    decided = await run.metric("booking", _UNSEEN) - decided
    run.require(decided == 0, f"{decided:.0f} times a constraint had to decide, and not the look", "backstop")
    for clients in _STORMS:
        slow = p99(seconds[clients])
        told = f"p99 of {clients} clients {slow * 1000:.0f} ms, of as many reads {reads[clients] * 1000:.0f} ms"
        run.note(told)
        run.within(slow < max(_STORM_SECONDS, _STORM_READS * reads[clients]), told)


async def _reads(run: Run, clients: int) -> list[float]:
    """Of as many clients at once, who stand in nobody's way: what this machine takes for that."""
    people, front, replicas = run.platform.people, run.platform.front, run.platform.replicas("booking")
    asking = (
        front.ask(replicas[number % len(replicas)], "GET", "/api/appointments", people.headers(patient))
        for number, patient in enumerate(people.patients[:clients])
    )
    return [answer.seconds for answer in await asyncio.gather(*asking)]


async def _storm(run: Run, clients: int, *, overlapping: bool) -> list[Answer]:
    people, front = run.platform.people, run.platform.front
    replicas = run.platform.replicas("booking")
    doctor, at = run.chance.choice(people.doctors), people.contested_time()
    wishes = []
    for patient in people.patients[:clients]:
        key = uuid4().hex
        # Half an hour that holds 25 to 30 minutes past `at`, whatever its start: each overlaps with all others.
        starts_at = at + timedelta(minutes=run.chance.randrange(0, 26) if overlapping else 0)
        body = {"doctorId": doctor, "dateTime": starts_at, "notes": key}
        wishes.append(({**people.headers(patient), "Idempotency-Key": key}, body))
    async with run.fault(f"{clients} clients"):
        answers = await asyncio.gather(
            *(
                front.ask(replicas[number % len(replicas)], "POST", "/api/appointments", headers, body)
                for number, (headers, body) in enumerate(wishes)
            )
        )
    run.requests += len(answers)
    run.acknowledged += sum(answer.status == 201 for answer in answers)
    return answers


def _code(answer: Answer) -> str | None:
    return answer.json().get("code") if answer.status else answer.error


@row("16", "confirm vs cancel, reschedule vs book, two confirms")
async def races(run: Run) -> None:
    ends_at = monotonic() + (run.seconds if run.length.long else 0)
    turn = 0
    while turn < _LEAST_RACES or monotonic() < ends_at:
        turn += 1
        etag = '"1"' if turn % 2 else None
        async with run.fault("races"):
            await _confirm_against_cancel(run, etag)
            await _move_against_book(run)
            await _two_confirms(run, etag)


async def _confirm_against_cancel(run: Run, etag: str | None) -> None:
    slot, visit = await run.booked()
    confirmed, cancelled = await asyncio.gather(
        run.change(visit, slot.doctor, {"status": "CONFIRMED"}, etag),
        run.change(visit, slot.patient, {"status": "CANCELLED"}, etag),
    )
    statuses = (confirmed.status, cancelled.status)
    # What was confirmed may be cancelled, unless it had to be as it was.
    legal = [(200, 412), (412, 200)] if etag else [(200, 200), (409, 200)]
    run.require(statuses in legal, f"confirm and cancel with If-Match {etag}: {statuses}")


async def _move_against_book(run: Run) -> None:
    people = run.platform.people
    slot, visit = await run.booked()
    at = people.contested_time()
    other = next(patient for patient in people.patients if patient != slot.patient)
    moved, booked = await asyncio.gather(
        run.change(visit, slot.patient, {"dateTime": at}, None), run.book(slot._replace(patient=other, starts_at=at))
    )
    statuses = sorted((moved.status, booked.status))
    run.require(statuses in ([200, 409], [201, 409]), f"reschedule and book: {statuses}")


async def _two_confirms(run: Run, etag: str | None) -> None:
    slot, visit = await run.booked()
    answers = await asyncio.gather(*(run.change(visit, slot.doctor, {"status": "CONFIRMED"}, None) for _ in range(2)))
    statuses = [answer.status for answer in answers]
    versions = {answer.json().get("version") for answer in answers}
    run.require((statuses, versions) == ([200, 200], {2}), f"two confirms: {statuses}, versions {versions}")
    async with run.platform.database("booking") as connection:
        events = await connection.fetchval("SELECT count(*) FROM outbox WHERE aggregateid = $1", visit["id"])
    run.require(events == 2, f"{events} events of an appointment that was booked and confirmed")


@row("17", "the stream replayed twice, shuffled")
async def replay(run: Run) -> None:
    most = None if run.length.long else 500
    async with run.load(share=0.5):
        await asyncio.sleep(1)
        for service, stream in (("booking", APPOINTMENTS.name), ("auth", USERS.name)):
            async with run.platform.database(service) as connection:
                rows = await connection.fetch(
                    """
                    SELECT id::text, type, aggregateid, version::text, to_json(created_at)#>>'{}' AS created_at,
                           (SELECT p FROM (SELECT payload::text AS p) AS text) AS payload
                    FROM outbox WHERE stream_seq IS NOT NULL ORDER BY random() LIMIT $1
                    """,
                    most,
                )
            entries = [dict(row) for row in rows] * 2
            run.chance.shuffle(entries)
            for entry in entries:
                await run.platform.add_to_stream(stream, entry)
            run.other_faults += len(entries)


@row("18", "poison: bad JSON, unknown type, 1 MB, the future, nobody")
async def poison(run: Run) -> None:
    added: dict[str, str] = {}
    async with run.load():
        async for number in run.instants(every_seconds=1.6):
            name, payload = list(_POISON.items())[number % len(_POISON)]
            async with run.fault(name):
                entry_id = await run.platform.add_to_stream(APPOINTMENTS.name, _entry(payload))
            added[entry_id] = name
    since = run.faults[0].began_at
    letters = run.platform.documents["dead_letters"]
    deadline = monotonic() + 60
    while await letters.count_documents({}) < len(added) and monotonic() < deadline:
        await asyncio.sleep(0.2)
    dead = {letter["entryId"] for letter in await letters.find().to_list()}
    alive = [f"{name} ({entry_id})" for entry_id, name in added.items() if entry_id not in dead]
    run.require(not alive, f"not dead-lettered within 60 s: {', '.join(alive)}")
    nobody = [entry_id for entry_id, name in added.items() if name == "nobody"]
    await _replay(run, await letters.find({"entryId": {"$in": nobody}}).to_list())
    await letters.delete_many({"entryId": {"$in": list(added)}})
    delays = await run.delays(since)
    run.note(f"{len(delays)} neighbours, the slowest told after {max(delays):.2f} s")
    run.within(max(delays) < 1, f"a neighbour was delayed by {max(delays):.1f} s")


async def _replay(run: Run, letters: list[dict[str, Any]]) -> None:
    """Once auth knows the people, an event that failed for want of them has its effect."""
    deployment, documents = run.platform.deployment, run.platform.documents
    await deployment.register(Role.PATIENT, [_NOBODY["patientId"]])
    await deployment.register(Role.DOCTOR, [_NOBODY["doctorId"]])
    headers = {"Authorization": f"Bearer {deployment.token(uuid4(), Role.ADMIN)}"}
    for letter in letters:
        path = f"/api/notifications/dead-letters/{letter['_id']}/replay"
        for _ in range(2):
            answer = await run.platform.front.send("notification", "POST", path, headers)
            run.requests += 1
            run.require(answer.status == 200, f"replay: {answer.status} {answer.body[:200]!r}")
        event = {"eventId": UUID(letter["fields"]["id"])}
        told = await documents["notifications"].count_documents(event)
        run.require(told == 2, f"replayed twice, told {told} times, where two people are concerned")
        # Of an event that booking never wrote.
        await documents["notifications"].delete_many(event)
    await documents["appointments"].delete_many({"_id": _NOBODY["appointmentId"]})


def _entry(payload: str) -> dict[str, str]:
    return {
        "id": str(uuid4()),
        "type": "AppointmentCreated",
        "aggregateid": str(uuid4()),
        "version": "1",
        "payload": payload,
        "created_at": "2026-11-23T09:00:00Z",
    }


_NOBODY = {name: uuid4() for name in ("appointmentId", "patientId", "doctorId")}


def _payload(**other: Any) -> str:
    """Of an appointment of people whom nobody knows."""
    known = {
        **_NOBODY,
        "type": "AppointmentCreated",
        "startsAt": "2026-12-01T09:00:00Z",
        "endsAt": "2026-12-01T09:30:00Z",
        "timeZone": "UTC",
        "status": "PENDING",
        "version": 1,
    }
    return msgspec.json.encode({**known, **other}).decode()


_POISON = {
    "bad JSON": '{"type": "AppointmentCreated"',
    "unknown type": _payload(type="AppointmentForgotten"),
    "1 MB": "x" * 2**20,
    "a future status": _payload(status="RESERVED", version=2),
    "nobody": _payload(),
}


@row("20", "clocks differ by 5 minutes and by an hour")
async def skewed_clocks(run: Run) -> None:
    run.platform.people.forget_tokens()
    skews = {20: 200, 300: 401, 3600: 401, -300: 200, -3600: 401}
    for seconds, expected in skews.items():
        async with run.fault(f"auth {seconds:+} s"):
            user_id, token = await _token_by_a_clock(run, seconds)
        for service, path in (("booking", "/api/appointments"), ("notification", f"/api/notifications/{user_id}")):
            answer = await run.platform.front.send(service, "GET", path, {"Authorization": f"Bearer {token}"})
            run.requests += 1
            run.require(answer.status == expected, f"{service}, auth's clock {seconds:+} s: {answer.status}")
    commands = {"booking": clock("booking", 300), "notification": clock("notification", -300)}
    async with run.fault("booking +300 s, notification -300 s"):
        await run.configure(commands=commands)
        async with run.load():
            pass


def clock(service: str, seconds: int) -> tuple[str, ...]:
    return ("tests.faults.patched", f"clock{seconds}", f"services.{service}", "serve")


async def _token_by_a_clock(run: Run, seconds: int) -> tuple[str, str]:
    """Of a patient who signs up and in just now, at one more replica of auth."""
    deployment, front = run.platform.deployment, run.platform.front
    environment = deployment.environment_of("auth")
    process = deployment.launch("auth by another clock", *clock("auth", seconds), **environment)
    try:
        await process.ready()
        who = {"email": f"{uuid4().hex}@example.com", "password": "correct horse battery staple"}
        await front.ask(process, "POST", "/api/patients/signup", {}, {"fullname": "Bo Example", **who})
        answer = await front.ask(process, "POST", "/api/patients/login", {}, who)
    finally:
        del deployment.processes["auth by another clock"]
        await asyncio.to_thread(process.stop)
    run.requests += 2
    return answer.json()["user"]["id"], answer.json()["accessToken"]


@row("22", "partitions of each pair: both ways, one way, reset")
async def partitions(run: Run) -> None:
    names = {
        "booking": {"postgres": "BOOKING_DATABASE_URL", "redis": "REDIS_URL", "keys": "JWKS_URL"},
        "notification": {"mongodb": "MONGODB_URL", "redis": "REDIS_URL", "keys": "JWKS_URL"},
    }
    names["booking"]["auth"] = names["notification"]["auth"] = "AUTH_INTERNAL_URL"
    links = {(service, to): await run.platform.link(service, to) for service in names for to in names[service]}
    settings = {
        service: {setting: links[service, to].url for to, setting in own.items()} for service, own in names.items()
    }
    await run.configure(settings)
    pairs = [pair for pair in links if pair[1] != "keys"]
    ways = ("both ways", "requests", "replies", "reset")
    everything = [(pair, way) for pair in pairs for way in ways]
    run.chance.shuffle(everything)
    hold = 5.0 if run.length.long else 1.2
    async with run.load(seconds=max(run.seconds, len(everything) * (hold + 1)) if run.length.long else 14):
        for pair, way in everything if run.length.long else everything[:6]:
            async with run.fault(f"{way} between {' and '.join(pair)}"):
                _partition(links[pair], way)
                await asyncio.sleep(hold)
                links[pair].heal()
            await asyncio.sleep(0.5)
    await run.settled()
    async with run.fault("auth away"):
        for (_, to), link in links.items():
            if to in ("auth", "keys"):
                link.cut()
        for replica in run.platform.replicas("booking"):
            await run.platform.restart(replica)
        slot = run.platform.people.free_slot()
        answer = await run.book(slot)
        run.require(answer.status == 201, f"a new pod while auth is away: {answer.status} {answer.body[:200]!r}")
        answer = await run.get("notification", f"/api/notifications/{slot.patient}", slot.patient)
        run.require(answer.status == 200, f"notification while auth is away: {answer.status}")
    for link in links.values():
        link.heal()


def _partition(link: Proxy, way: str) -> None:
    if way == "reset":
        link.reset()
    if way in ("both ways", "requests"):
        link.hold_requests()
    if way in ("both ways", "replies"):
        link.hold_replies()


@row("23", "5 % loss, 300 ms delay, 1 KiB slices")
async def bad_network(run: Run) -> None:
    platform = run.platform
    links = {service: await platform.link(service, "redis") for service in ("booking", "notification")}
    await run.configure({service: {"REDIS_URL": link.url} for service, link in links.items()})
    async with AsyncExitStack() as opened:
        ways = list(links.values())
        for replica in platform.replicas("booking"):
            way = await opened.enter_async_context(Proxy.to(replica.url))
            platform.front.via[replica.name] = urlsplit(way.url).port or 0
            ways.append(way)
        try:
            async with run.load(), run.fault("bad network"):
                for way in ways:
                    way.delay_seconds, way.loss, way.chunk_bytes = 0.15, 0.05, 1024
                await asyncio.sleep(run.seconds)
            operations = await run.settled()
        finally:
            platform.front.via.clear()
            for way in ways:
                way.heal()
    slow = p99([reply.seconds for one in operations for reply in one.replies])
    run.note(f"p99 {slow:.2f} s")
    run.within(slow < 3, f"p99 {slow:.1f} s")


@row("24", "rolling restart of every service")
async def rolling_restart(run: Run) -> None:
    draining = {"DRAIN_DELAY_SECONDS": "1"}
    await run.configure(dict.fromkeys(run.platform.deployment.processes, draining))
    reader = run.platform.people.patients[0]
    answers: list[Answer] = []
    already = len(run.platform.deaths)

    async def read() -> None:
        while True:
            for service, path in (("auth", "/api/doctors"), ("notification", f"/api/notifications/{reader}")):
                answers.append(await run.get(service, path, reader))
            await asyncio.sleep(0.05)

    # One process at a time, and less load: they start on the processors that the others work on.
    async with run.load(patience_seconds=0, share=0.4, seconds=inf):
        reading = asyncio.create_task(read())
        ends_at = monotonic() + run.seconds
        while True:
            for replica in run.platform.deployment.all:
                async with run.fault("SIGTERM"):
                    await run.platform.restart(replica)
                await asyncio.sleep(0.5)
            if not run.length.long or monotonic() > ends_at:
                break
    reading.cancel()
    killed = len(run.platform.deaths) - already
    run.require(not killed, f"{killed} processes did not drain in time")
    failed = [one for one in answers if one.status != 200]
    run.within(not failed, f"{len(failed)} of {len(answers)} reads failed: {failed[:1]}")
    lost = [one for one in await run.settled() if one.outcome == "unknown"]
    run.within(not lost, f"{len(lost)} writes failed: {[one.replies[-1] for one in lost][:1]}")
    run.note(f"{len(answers)} reads of auth and notification")


def in_order(name: str) -> tuple[int, str]:
    return int(name.rstrip("b")), name


ROWS = {name: ROWS[name] for name in sorted(ROWS, key=in_order)}
