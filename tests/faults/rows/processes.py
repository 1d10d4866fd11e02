"""Replicas that are killed, that die at the worst moment, and that are restarted in turn."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from math import inf
from time import monotonic, time
from typing import Any

from services.contracts.streams import APPOINTMENTS
from tests.faults.balancer import Answer
from tests.faults.ledger import Operation
from tests.faults.row import row
from tests.faults.run import Run
from tests.support.mail_server import MailServer

_AVAILABLE_SECONDS = 10.0


@row("1", "kill -9 one of two booking workers", cuts=True)
async def one_booking_worker(run: Run) -> None:
    async with run.load():
        async for number in run.instants(every_seconds=5):
            async with run.fault("kill -9"):
                run.platform.replicas("booking")[number % 2].kill()
    available = _availability(await run.settled())
    run.note(f"available {available:.2%}")
    run.within(available >= 0.99, f"only {available:.2%} had an answer within {_AVAILABLE_SECONDS:.0f} s")


def _availability(operations: list[Operation]) -> float:
    """Return the share of operations with a definite outcome in time, the client's repetitions included."""
    in_time = sum(
        one.verdict is not None and one.outcome != "unknown" and one.verdict.at - one.intent.at <= _AVAILABLE_SECONDS
        for one in operations
    )
    return in_time / len(operations) if operations else 0.0


@row("2", "kill -9 all booking workers", cuts=True)
async def all_booking_workers(run: Run) -> None:
    async with run.load():
        async for _ in run.instants(every_seconds=5):
            async with run.fault("kill -9"):
                for replica in run.platform.replicas("booking"):
                    replica.kill()
    unknown = sum(one.outcome == "unknown" for one in await run.settled())
    run.require(unknown == 0, f"{unknown} clients never learned the outcome of their request")


@row("3", "crash after COMMIT, before the reply", cuts=True)
async def committed_but_unanswered(run: Run) -> None:
    async with run.failpoint("booking", "committed=0.02"), run.load():
        pass
    repeated = [
        one
        for one in await run.settled()
        if one.intent.kind == "book" and any(reply.replayed for reply in one.acknowledgements)
    ]
    run.note(f"{len(repeated)} clients got the stored answer")
    run.require(bool(repeated), "no client got the stored answer: the row proves nothing")


@row("4", "relay killed between XADD and mark", cuts=True)
async def appended_but_not_marked(run: Run) -> None:
    async with _appearances(run, APPOINTMENTS.name) as appearances:
        async with run.failpoint("booking", "appended=0.02"), run.load():
            pass
        await run.quiet()
    repeated = sum(number - 1 for number in appearances.values())
    run.note(f"{repeated} of {appearances.total()} entries of the stream were repetitions")
    run.require(repeated > 0, "no event was in the stream twice: the row proves nothing")


@asynccontextmanager
async def _appearances(run: Run, stream: str) -> AsyncIterator[Counter[str]]:
    """Count how often each event id appears in the stream while the block runs, by reading it outside its groups."""
    counts: Counter[str] = Counter()
    redis = run.platform.servers.redis_client
    position: Any = (await redis.xinfo_stream(stream))["last-generated-id"]

    async def keep_reading() -> None:
        nonlocal position
        while True:
            replies: Any = await redis.xread({stream: position}, count=500)
            for _, entries in replies:
                counts.update(fields[b"id"].decode() for _, fields in entries)
                position = entries[-1][0]
            await asyncio.sleep(0.1)

    reading = asyncio.create_task(keep_reading())
    try:
        yield counts
    finally:
        reading.cancel()


@row("5", "consumer killed after the write, before the ack")
async def handled_but_not_acknowledged(run: Run) -> None:
    async with run.failpoint("notification", "handled=0.02"), run.load():
        pass
    seconds = await run.quiet()
    run.within(seconds <= 60, f"{seconds:.0f} s until other members had claimed everything")


@row("5b", "delivery killed between SMTP's 250 and the mark")
async def accepted_but_not_marked(run: Run) -> None:
    server = MailServer()
    await server.start()
    accepted: dict[str, list[float]] = {}  # times by Message-ID

    def note() -> None:
        accepted.setdefault(server.taken[-1]["Message-ID"], []).append(time())

    server.accepting = note
    settings = {"SMTP_URL": server.url, "MAIL_FROM": "clinic@example.com", "SMTP_TIMEOUT_SECONDS": "3"}
    emails = run.platform.documents["notifications"]
    try:
        async with run.failpoint("notification", "accepted=0.03", **settings), run.load(share=0.2):
            pass
        await run.settled()
        run.require(await run.platform.servers.quiet(60), "events are unread after 60 s")
        # What a dead sender left is due again after its lease, which is four times SMTP_TIMEOUT_SECONDS.
        deadline = monotonic() + 60
        while await emails.count_documents({"channel": "EMAIL", "status": {"$ne": "SENT"}}) and monotonic() < deadline:
            await asyncio.sleep(0.2)
    finally:
        await server.stop()
    number = await emails.count_documents({"channel": "EMAIL"})
    repeated = {name: times for name, times in accepted.items() if len(times) > 1}
    run.note(f"{number} e-mails, {len(repeated)} sent more than once")
    run.require(len(accepted) == number, f"{len(accepted)} messages for {number} e-mails")
    run.require(bool(repeated), "no message was sent twice: the row proves nothing")
    deaths = [fault.began_at for fault in run.faults]
    unexcused = [
        name
        for name, times in repeated.items()
        for first, again in pairwise(times)
        if not any(first <= died_at <= again for died_at in deaths)
    ]
    run.require(not unexcused, f"sent again though no sender had died: {unexcused[:3]}")


@row("6", "consumer killed before the write")
async def received_but_not_handled(run: Run) -> None:
    async with run.failpoint("notification", "received=0.02"), run.load():
        pass


@row("24", "rolling restart of every service")
async def rolling_restart(run: Run) -> None:
    draining = {"DRAIN_DELAY_SECONDS": "1"}
    await run.configure(dict.fromkeys(run.platform.deployment.processes, draining))
    reader = run.platform.people.patients[0]
    answers: list[Answer] = []
    before = len(run.platform.deaths)

    async def keep_reading() -> None:
        while True:
            for service, path in (("auth", "/api/doctors"), ("notification", f"/api/notifications/{reader}")):
                answers.append(await run.client.get(service, path, reader))
            await asyncio.sleep(0.05)

    # One process at a time, and less load, because a starting process takes processor time from the others.
    async with run.load(patience_seconds=0, share=0.4, seconds=inf):
        reading = asyncio.create_task(keep_reading())
        ends_at = monotonic() + run.seconds
        while True:
            for replica in run.platform.deployment.all:
                async with run.fault("SIGTERM"):
                    await run.platform.restart(replica)
                await asyncio.sleep(0.5)
            if not run.length.long or monotonic() > ends_at:
                break
    reading.cancel()
    killed = len(run.platform.deaths) - before
    run.require(not killed, f"{killed} processes did not drain in time")
    failed = [one for one in answers if one.status != 200]
    run.within(not failed, f"{len(failed)} of {len(answers)} reads failed: {failed[:1]}")
    lost = [one for one in await run.settled() if one.outcome == "unknown"]
    run.within(not lost, f"{len(lost)} writes failed: {[one.replies[-1] for one in lost][:1]}")
    run.note(f"{len(answers)} reads of auth and notification")
