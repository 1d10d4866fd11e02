"""MongoDB is away or slow; PostgreSQL crashes, hangs and refuses to serialize."""

import asyncio
from time import monotonic

from tests.faults.balancer import Answer
from tests.faults.measures import require_service
from tests.faults.row import row
from tests.faults.run import Run

_GROWTH_MIB = 32


@row("10", "MongoDB down, then slow")
async def mongodb_away(run: Run) -> None:
    servers = run.platform.servers
    link = await run.platform.link("notification", "mongodb")
    await run.configure({"notification": {"MONGODB_URL": link.url}})
    hold = 60.0 if run.length.long else 4.0
    reader = run.platform.people.patients[0]
    answers = []
    async with run.load(seconds=max(run.seconds, 2.5 * hold)):
        async with run.fault("down"):
            await servers.kill(servers.mongodb)
            ends_at = monotonic() + hold
            while monotonic() < ends_at:
                answers.append(await run.client.get("notification", f"/api/notifications/{reader}", reader))
                await asyncio.sleep(0.2)
        await servers.start(servers.mongodb)
        async with run.fault("slow"):
            link.delay_seconds = 0.15
            await asyncio.sleep(hold)
            link.heal()
    run.require(all(answer.status == 503 for answer in answers), "notifications were read without a store")
    improper = [one for one in answers if not _is_proper_refusal(one)]
    run.require(not improper, f"improper answer while MongoDB is down: {improper[:1]}")
    longest = max(answer.seconds for answer in answers)
    run.within(longest <= 3, f"an answer took {longest:.1f} s")
    require_service(run, await run.settled())


def _is_proper_refusal(answer: Answer) -> bool:
    return (
        answer.status == 503
        and answer.headers.get("content-type") == "application/problem+json"
        and "retry-after" in answer.headers
    )


@row("11", "PostgreSQL kill -9, restart", cuts=True)
async def postgres_crash(run: Run) -> None:
    servers = run.platform.servers
    async with run.load():
        async for _ in run.instants(every_seconds=5):
            async with run.fault("kill -9"):
                await servers.kill(servers.postgres)
            await servers.start(servers.postgres)
    recovery = run.longest_recovery(await run.settled())
    run.within(recovery <= 30, f"{recovery:.1f} s until the next acknowledgement")


@row("13", "PostgreSQL frozen; pool exhausted")
async def postgres_hangs(run: Run) -> None:
    servers = run.platform.servers
    hold = 20.0 if run.length.long else 4.0
    replicas = run.platform.replicas("booking")
    memory = [replica.resident_bytes for replica in replicas]
    async with run.load(seconds=max(run.seconds, 2 * hold + 8)):
        await asyncio.sleep(1)
        async with run.fault("frozen"), servers.frozen(servers.postgres):
            await asyncio.sleep(hold)
        await asyncio.sleep(5)
        async with servers.database("booking") as connection, connection.transaction(), run.fault("exhausted"):
            # Every writer waits for this lock with a connection of the pool, until no connection is left.
            await connection.execute("LOCK TABLE appointments IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(hold / 2)
    operations = await run.settled()
    replies = [reply for one in operations for reply in one.replies]
    refusals = [reply for reply in replies if reply.status == 503]
    run.require(bool(refusals), "no request was refused: the row proves nothing")
    longest = max(reply.seconds for reply in replies)
    growth = max(now.resident_bytes - before for now, before in zip(replicas, memory, strict=True)) / 2**20
    recovery = run.longest_recovery(operations)
    run.note(f"{len(refusals)} answers were 503, the longest answer took {longest:.2f} s, memory grew {growth:.0f} MiB")
    run.within(longest <= 3, f"an answer took {longest:.1f} s")
    run.require(growth <= _GROWTH_MIB, f"memory grew by {growth:.0f} MiB")
    run.within(recovery <= 5, f"{recovery:.1f} s until the next acknowledgement")


FAIL_AT_RANDOM = """
    CREATE SEQUENCE IF NOT EXISTS raised;
    CREATE OR REPLACE FUNCTION fail_at_random() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        IF random() < 0.15 THEN
            -- A sequence keeps its value when the transaction is rolled back.
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
FAIL_NO_MORE = """
    DROP TRIGGER at_statement ON appointments; DROP TRIGGER at_commit ON appointments; DROP SEQUENCE raised;
"""


@row("14", "40001 and 40P01 at a statement and at COMMIT")
async def serialization_failures(run: Run) -> None:
    await run.platform.execute(FAIL_AT_RANDOM)
    try:
        async with run.load():
            pass
        await run.settled()
        async with run.platform.servers.database("booking") as connection:
            raised = await connection.fetchval("SELECT last_value FROM raised")
    finally:
        await run.platform.execute(FAIL_NO_MORE)
    run.uncounted_faults += raised
