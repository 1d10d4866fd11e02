"""Redis is killed, loses data, and is away."""

import asyncio
import signal
from uuid import uuid4

from services.contracts.streams import APPOINTMENTS
from tests.faults.ledger import Operation
from tests.faults.measures import p99, require_service
from tests.faults.row import row
from tests.faults.run import Run

# The p99 of a few hundred requests varies by itself on a machine that runs other programs.
_NOISE_SECONDS = 0.05
_FREE_GUESSES = 5  # of a password, before the first pause


@row("7", "Redis killed, restarted with its AOF")
async def redis_crash(run: Run) -> None:
    servers = run.platform.servers
    async with run.load():
        async for _ in run.instants(every_seconds=6):
            async with run.fault("kill -9"):
                await servers.kill(servers.redis)
                await asyncio.sleep(run.random.uniform(0.5, 2))
            await servers.start(servers.redis)
    require_service(run, await run.settled())


@row("8", "Redis emptied, replaced by an empty one, AOF cut")
async def redis_loses_data(run: Run) -> None:
    servers, client = run.platform.servers, run.client

    async def flush() -> None:
        await servers.redis_client.flushall()

    async def cut() -> None:
        await servers.truncate_redis_log(run.random.randrange(1, 20_000))

    ways = {"FLUSHALL": flush, "replaced": servers.replace_redis, "AOF cut": cut}
    before = 0
    async with run.load():
        async for number in run.instants(every_seconds=2.6):
            name = list(ways)[number % len(ways)]
            email = f"{uuid4().hex}@example.com"
            for _ in range(_FREE_GUESSES):
                await client.guess_password(email)
            # Consumers stand still for a moment, so that Redis has unread entries to lose.
            for consumer in run.platform.replicas("notification"):
                consumer.send(signal.SIGSTOP)
            await asyncio.sleep(0.5)
            async with servers.database("booking") as booking:
                before = await booking.fetchval("SELECT max(stream_seq) FROM outbox")
            async with run.fault(name):
                await ways[name]()
            for consumer in run.platform.replicas("notification"):
                consumer.send(signal.SIGCONT)
            statuses = [await client.guess_password(email) for _ in range(2)]
            run.require(429 in statuses, f"after {name} login throttling opened: {statuses}")
    await client.book_free_slot()
    await run.quiet()
    top = (await servers.redis_client.xinfo_stream(APPOINTMENTS.name))["last-generated-id"].decode()
    run.require(int(top.partition("-")[0]) > before, f"the stream continues at {top}, though {before} was in use")
    require_service(run, await run.settled())


@row("9", "Redis down, then frozen")
async def redis_away(run: Run) -> None:
    servers = run.platform.servers
    hold = 60.0 if run.length.long else 3.0
    async with run.load(seconds=max(run.seconds, 3 * hold)):
        await asyncio.sleep(hold)
        async with run.fault("down"):
            await servers.kill(servers.redis)
            await asyncio.sleep(hold / 2)
        await servers.start(servers.redis)
        async with run.fault("frozen"), servers.frozen(servers.redis):
            await asyncio.sleep(hold / 2)
    seconds = await run.quiet()
    run.within(seconds <= 60, f"{seconds:.0f} s until the streams were drained")
    operations = await run.settled()
    require_service(run, operations)
    before, during = _latencies(run, operations)
    run.note(f"p99 {before * 1000:.0f} ms before, {during * 1000:.0f} ms during")
    run.within(during <= max(1.2 * before, before + _NOISE_SECONDS), f"p99 rose from {before:.3f} s to {during:.3f} s")


def _latencies(run: Run, operations: list[Operation]) -> tuple[float, float]:
    """Return the p99 of bookings, in seconds, before the first fault and during faults."""
    before, during = [], []
    for one in operations:
        for reply in one.replies:
            if one.intent.kind != "book":
                continue
            if reply.sent_at < run.faults[0].began_at:
                before.append(reply.seconds)
            elif any(fault.began_at <= reply.sent_at <= fault.ended_at for fault in run.faults):
                during.append(reply.seconds)
    return p99(before), p99(during)
