"""Clients that compete: for one slot, and for the state of one appointment."""

import asyncio
from collections import Counter
from datetime import timedelta
from time import monotonic

import httpx

from tests.faults.balancer import Answer
from tests.faults.measures import p99
from tests.faults.people import Slot
from tests.faults.row import row
from tests.faults.run import Run
from tests.support.metrics import total

_STORMS = (32, 64, 128)
_LEAST_STORMS = 4
# A quarter of a second, or on a slow machine the time of the three or four statements that a refusal takes. Writers
# that queue for each other's locks take a second and more.
_STORM_SECONDS, _STORM_READS = 0.25, 5
_MISSED_CONFLICTS = "booking_unseen_conflicts_total"
_LEAST_RACES = 10


@row("15", "hot-slot storm: 32, 64, 128 clients")
async def storm(run: Run) -> None:
    for replica in run.platform.replicas("booking"):
        await run.platform.balancer.open_connections(replica, 64)
    await run.fill_pools()
    await _storm(run, 64, overlapping=False)  # a connection prepares its statements when they are first used
    ends_at = monotonic() + (run.seconds if run.length.long else 0)
    reads = {clients: p99(await _read_seconds(run, clients)) for clients in _STORMS}
    missed = await _missed_conflicts(run)
    seconds: dict[int, list[float]] = {clients: [] for clients in _STORMS}
    turn = 0
    while turn < _LEAST_STORMS or monotonic() < ends_at:
        turn += 1
        for clients in _STORMS:
            answers = await _storm(run, clients, overlapping=turn % 2 == 0)
            seconds[clients] += [answer.seconds for answer in answers]
            codes = Counter("ok" if one.status == 201 else f"{one.status} {_code(one)}" for one in answers)
            run.require(codes == {"ok": 1, "409 slot_taken": clients - 1}, f"{clients} clients got {dict(codes)}")
    missed = await _missed_conflicts(run) - missed
    run.require(missed == 0, f"{missed:.0f} times a constraint refused what the look had found free", "backstop")
    for clients in _STORMS:
        slow = p99(seconds[clients])
        text = f"p99 of {clients} clients {slow * 1000:.0f} ms, of as many reads {reads[clients] * 1000:.0f} ms"
        run.note(text)
        run.within(slow < max(_STORM_SECONDS, _STORM_READS * reads[clients]), text)


async def _read_seconds(run: Run, clients: int) -> list[float]:
    """Measure as many reads at once, which do not compete, for what this machine takes for so many requests."""
    people, balancer, replicas = run.platform.people, run.platform.balancer, run.platform.replicas("booking")
    reading = (
        balancer.send_to(replicas[number % len(replicas)], "GET", "/api/appointments", people.headers(patient))
        for number, patient in enumerate(people.patients[:clients])
    )
    return [answer.seconds for answer in await asyncio.gather(*reading)]


async def _missed_conflicts(run: Run) -> float:
    """Add up booking's metric over its replicas."""
    async with httpx.AsyncClient(trust_env=False) as client:
        pages = [(await client.get(f"{one.internal_url}/metrics")).text for one in run.platform.replicas("booking")]
    return sum(total(page, _MISSED_CONFLICTS) for page in pages)


async def _storm(run: Run, clients: int, *, overlapping: bool) -> list[Answer]:
    """Let all clients book at once: one start, or starts within 25 minutes, so that every two half hours overlap."""
    people, replicas = run.platform.people, run.platform.replicas("booking")
    doctor, first = run.random.choice(people.doctors), people.contested_time()
    slots = [
        Slot(doctor, patient, first + timedelta(minutes=run.random.randrange(0, 26) if overlapping else 0))
        for patient in people.patients[:clients]
    ]
    async with run.fault(f"{clients} clients"):
        return await asyncio.gather(
            *(run.client.book(slot, replicas[number % len(replicas)]) for number, slot in enumerate(slots))
        )


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
            await _two_confirms(run)


async def _confirm_against_cancel(run: Run, etag: str | None) -> None:
    slot, appointment = await run.client.book_free_slot()
    confirmed, cancelled = await asyncio.gather(
        run.client.change(appointment, slot.doctor, {"status": "CONFIRMED"}, etag),
        run.client.change(appointment, slot.patient, {"status": "CANCELLED"}, etag),
    )
    statuses = (confirmed.status, cancelled.status)
    # A confirmed appointment may be cancelled, unless the patient requires the version from before.
    legal = [(200, 412), (412, 200)] if etag else [(200, 200), (409, 200)]
    run.require(statuses in legal, f"confirm and cancel with If-Match {etag}: {statuses}")


async def _move_against_book(run: Run) -> None:
    people = run.platform.people
    slot, appointment = await run.client.book_free_slot()
    contested = people.contested_time()
    other = next(patient for patient in people.patients if patient != slot.patient)
    moved, booked = await asyncio.gather(
        run.client.change(appointment, slot.patient, {"dateTime": contested}),
        run.client.book(Slot(slot.doctor, other, contested)),
    )
    statuses = sorted((moved.status, booked.status))
    run.require(statuses in ([200, 409], [201, 409]), f"reschedule and book: {statuses}")


async def _two_confirms(run: Run) -> None:
    slot, appointment = await run.client.book_free_slot()
    answers = await asyncio.gather(
        *(run.client.change(appointment, slot.doctor, {"status": "CONFIRMED"}) for _ in range(2))
    )
    statuses = [answer.status for answer in answers]
    versions = {answer.json().get("version") for answer in answers}
    run.require((statuses, versions) == ([200, 200], {2}), f"two confirms: {statuses}, versions {versions}")
    async with run.platform.servers.database("booking") as connection:
        events = await connection.fetchval("SELECT count(*) FROM outbox WHERE aggregateid = $1", appointment["id"])
    run.require(events == 2, f"{events} events of an appointment that was booked and confirmed")
