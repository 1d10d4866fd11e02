"""Buffers: between two appointments lie at least the first's after plus the second's before."""

import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import asyncpg
import httpx
import pytest

from tests.booking.appointment_types.offers import alter, offer, open_hours, slots
from tests.booking.clinic import (
    Clinic,
    assert_refused,
    book,
    change,
    changed,
    free_time,
    hold,
    post,
    request_for,
    wire,
)
from tests.support.metrics import total

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def minutes(number: int) -> timedelta:
    return timedelta(minutes=number)


@pytest.fixture
async def every_conflict_is_seen(internal: httpx.AsyncClient) -> AsyncIterator[None]:
    """Fail a test whose conflicts the constraint alone refused: the obstacles are to name each of them."""

    async def unseen() -> float:
        return total((await internal.get("/metrics")).text, "booking_unseen_conflicts_total")

    before = await unseen()
    yield
    assert await unseen() == before


async def test_case_6_the_list_and_the_booking_agree(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, day = clinic.doctor(), free_time()
    await open_hours(client, doctor, slotMinutes=15)
    one = await offer(client, doctor, durationMinutes=15, bufferAfterMinutes=30)
    first = await book(client, clinic.patient(), doctor, day)
    assert first["endsAt"] == wire(day + minutes(15))
    offered = await slots(client, doctor, typeId=one["id"], **{"from": wire(day), "to": wire(day + HOUR)})
    assert offered == [wire(day + minutes(45))]
    problem = assert_refused(
        await post(client, clinic.patient(), request_for(doctor, day + minutes(30))), 409, "slot_taken"
    )
    assert [free["dateTime"] for free in problem["alternatives"]] == [
        wire(day + minutes(number)) for number in (45, 60, 75)
    ]
    await book(client, clinic.patient(), doctor, day + minutes(45))


async def test_case_7_an_hour_on_both_sides(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, noon = clinic.doctor(), free_time().replace(hour=12)
    await open_hours(
        client, doctor, weekly=[{"hours": [{"weekday": n, "start": "00:00", "end": "24:00"} for n in range(1, 8)]}]
    )
    await offer(client, doctor, name="Long", durationMinutes=60, bufferBeforeMinutes=60, bufferAfterMinutes=60)
    plain = await offer(client, doctor, durationMinutes=60)
    await book(client, clinic.patient(), doctor, noon)
    offered = await slots(
        client, doctor, typeId=plain["id"], **{"from": wire(noon - 3 * HOUR), "to": wire(noon + 4 * HOUR)}
    )
    assert offered[:3] == [wire(noon - minutes(number)) for number in (180, 150, 120)]
    assert offered[3] == wire(noon + 2 * HOUR)
    for at, status in (
        (noon - minutes(119), 409),
        (noon - 2 * HOUR, 201),
        (noon + minutes(90), 409),
        (noon + 2 * HOUR, 201),
    ):
        body = request_for(doctor, at, typeId=plain["id"])
        assert (await post(client, clinic.patient(), body)).status_code == status


@pytest.mark.parametrize(("after", "before"), [(0, 0), (10, 0), (0, 20), (10, 20), (240, 240)])
@pytest.mark.usefixtures("every_conflict_is_seen")
async def test_the_gap_is_the_first_ones_after_plus_the_second_ones_before(
    client: httpx.AsyncClient, clinic: Clinic, after: int, before: int
) -> None:
    doctor, at = clinic.doctor(), free_time()
    first = await offer(client, doctor, bufferAfterMinutes=after)
    second = await offer(client, doctor, bufferBeforeMinutes=before)
    gap = minutes(30 + after + before)
    for early, late in ((first, second), (second, first)):
        at += 2 * DAY
        begin, end = (at, at + gap) if early is first else (at + gap, at)
        await book(client, clinic.patient(), doctor, begin, typeId=early["id"])
        for too_near in (1, 29 + after + before):
            toward = minutes(too_near) if early is first else -minutes(too_near)
            body = request_for(doctor, end - toward, typeId=late["id"])
            problem = assert_refused(await post(client, clinic.patient(), body), 409, "slot_taken")
            assert wire(end) in [free["dateTime"] for free in problem["alternatives"]] or early is second
        await book(client, clinic.patient(), doctor, end, typeId=late["id"])


async def test_buffers_may_lie_outside_the_hours(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, day = clinic.doctor(), free_time()
    await open_hours(client, doctor)
    one = await offer(client, doctor, durationMinutes=60, bufferBeforeMinutes=60, bufferAfterMinutes=60)
    offered = await slots(client, doctor, typeId=one["id"], **{"from": wire(day), "to": wire(day + 12 * HOUR)})
    assert (offered[0], offered[-1]) == (wire(day), wire(day + 2 * HOUR))
    await book(client, clinic.patient(), doctor, day)
    await book(client, clinic.patient(), doctor, day + DAY + 2 * HOUR)


async def test_buffers_do_not_bind_the_patient(client: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, at = clinic.patient(), free_time()
    for at_once in (at, at + minutes(30)):
        doctor = clinic.doctor()
        await offer(client, doctor, bufferBeforeMinutes=120, bufferAfterMinutes=120)
        await book(client, patient, doctor, at_once)


@pytest.mark.usefixtures("every_conflict_is_seen")
async def test_a_moved_appointment_keeps_its_buffers(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    one = await offer(client, doctor, bufferBeforeMinutes=10, bufferAfterMinutes=20)
    plain = await offer(client, doctor)
    appointment = await book(client, patient, doctor, at)
    other = await book(client, clinic.patient(), doctor, at + 4 * HOUR, typeId=plain["id"])
    await alter(client, doctor, doctor, one, bufferBeforeMinutes=0, bufferAfterMinutes=0)
    for near in (minutes(180 + 11), minutes(240 + 39)):
        assert_refused(await change(client, patient, appointment, dateTime=wire(at + near)), 409, "slot_taken")
        await changed(client, doctor, other, dateTime=wire(at + 5 * HOUR))
        await changed(client, doctor, other, dateTime=wire(at + 4 * HOUR))
    moved = await changed(client, patient, appointment, dateTime=wire(at + 4 * HOUR + minutes(40)))
    (row,) = await database.fetch("SELECT during, blocked FROM appointments WHERE id::text = $1", moved["id"])
    assert (row["during"].lower - row["blocked"].lower, row["blocked"].upper - row["during"].upper) == (
        minutes(10),
        minutes(20),
    )
    problem = assert_refused(
        await change(client, doctor, other, dateTime=wire(at + 4 * HOUR + minutes(1))), 409, "slot_taken"
    )
    assert problem["alternatives"][0]["dateTime"] == wire(at + 5 * HOUR + minutes(30))


async def test_the_times_to_move_to_have_the_appointments_own_length_and_buffers(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient, day = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor)
    one = await offer(client, doctor, durationMinutes=60, bufferBeforeMinutes=30, bufferAfterMinutes=10)
    plain = await offer(client, doctor, durationMinutes=15)
    appointment = await book(client, patient, doctor, day)
    await alter(client, doctor, doctor, one, durationMinutes=30, bufferBeforeMinutes=0)
    await book(client, clinic.patient(), doctor, day + minutes(120), typeId=plain["id"])
    query = {"doctorId": str(doctor.id), "from": wire(day), "to": wire(day + 3 * HOUR), "excluding": appointment["id"]}
    found = await client.get("/api/slots", params=query, headers=patient.headers)
    assert [(slot["typeId"], slot["startsAt"], slot["endsAt"]) for slot in found.json()["items"]] == [
        (one["id"], wire(day + minutes(start)), wire(day + minutes(start + 60))) for start in (0, 30)
    ]
    problem = await client.get("/api/slots", params={**query, "typeId": one["id"]}, headers=patient.headers)
    assert_refused(problem, 400, "invalid_request", "typeId")
    await changed(client, patient, appointment, dateTime=wire(day + minutes(30)))
    answer = await change(client, patient, appointment, durationMinutes=30)
    assert_refused(answer, 400, "invalid_request", "durationMinutes")
    await changed(client, doctor, appointment, durationMinutes=30)


async def test_a_corrected_appointment_needs_its_buffers_again(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, admin, at = clinic.doctor(), clinic.admin(), free_time()
    await offer(client, doctor, bufferAfterMinutes=30)
    appointment = await book(client, clinic.patient(), doctor, at)
    await changed(client, doctor, appointment, status="CANCELLED")
    between = await book(client, clinic.patient(), doctor, at + minutes(45))
    correct = {"status": "CONFIRMED", "reason": "By mistake"}
    assert_refused(await change(client, admin, appointment, **correct), 409, "slot_taken")
    await changed(client, doctor, between, dateTime=wire(at + HOUR))
    await changed(client, admin, appointment, **correct)


async def test_an_overbooked_appointment_takes_its_buffers_too(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, at = clinic.doctor(), free_time()
    one = await offer(client, doctor, bufferAfterMinutes=30)
    first = await book(client, clinic.patient(), doctor, at)
    urgent = {"patientId": str(clinic.patient().id), "typeId": one["id"], "overbook": True, "reason": "In pain"}
    assert (await book(client, doctor, doctor, at + minutes(45), **urgent))["overbooked"] is True
    await changed(client, doctor, first, status="CANCELLED")
    assert_refused(await post(client, clinic.patient(), request_for(doctor, at + minutes(90))), 409, "slot_taken")
    await book(client, clinic.patient(), doctor, at + minutes(105))


async def test_a_dead_hold_in_a_buffer_is_cleared_away(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, at = clinic.doctor(), free_time()
    await offer(client, doctor, durationMinutes=480, bufferBeforeMinutes=240, bufferAfterMinutes=240)
    near = [at - minutes(240), at + minutes(480 + 210)]
    held = [await hold(database, doctor, clinic.patient(), start, "1 minute") for start in near]
    assert_refused(await post(client, clinic.patient(), request_for(doctor, at)), 409, "slot_taken")
    await database.execute("UPDATE appointments SET hold_expires_at = now() WHERE id = ANY($1)", held)
    await book(client, clinic.patient(), doctor, at)


async def test_every_slot_can_be_booked_and_no_other_start(client: httpx.AsyncClient, clinic: Clinic) -> None:
    """Random types, hours and bookings; the database decides."""
    choose = random.Random(11)
    for _ in range(5):
        doctor, day, step = clinic.doctor(), free_time().replace(hour=0), choose.choice([20, 30, 60])
        hours = [{"weekday": n, "start": "06:00", "end": f"{choose.randrange(14, 22)}:00"} for n in range(1, 8)]
        zone = choose.choice(["UTC", "America/New_York", "Asia/Kathmandu"])
        await open_hours(client, doctor, timeZone=zone, slotMinutes=step, weekly=[{"hours": hours}])
        types = [
            await offer(
                client,
                doctor,
                durationMinutes=choose.choice([15, 30, 50]),
                bufferBeforeMinutes=choose.choice([0, 10, 60]),
                bufferAfterMinutes=choose.choice([0, 5, 45]),
            )
            for _ in range(2)
        ]
        window = {"from": wire(day), "to": wire(day + DAY)}
        for one in types:
            if found := await slots(client, doctor, typeId=one["id"], **window):
                at = datetime.fromisoformat(choose.choice(found))
                await book(client, clinic.patient(), doctor, at, typeId=one["id"])
        one = choose.choice(types)
        offered = await slots(client, doctor, typeId=one["id"], **window)
        assert offered
        for number in range(0, 1440, 30):
            at = day + minutes(number)
            answer = await post(client, clinic.patient(), request_for(doctor, at, typeId=one["id"]))
            assert answer.status_code == (201 if wire(at) in offered else 409), (zone, step, hours, one, at)
            if answer.status_code == 201:
                await changed(client, doctor, answer.json(), status="CANCELLED")
