"""A leave and bookings at the same moment, by two processes: a booking is refused, or the leave knows of it."""

import asyncio

import asyncpg

from tests.booking.clinic import Clinic, Person, change, free_time, request_for, wire
from tests.booking.schedule_exceptions.leave import HALF_HOUR, HOUR, add, added, off, remove
from tests.booking.time.races import at_once, codes, posts, warm
from tests.support.process import Served

IN_LEAVE = """
    SELECT id::text FROM appointments
    WHERE doctor_id = $1 AND status IN ('PENDING', 'CONFIRMED') AND during && tstzrange($2, $3)
"""


async def people(replicas: list[Served], clinic: Clinic) -> tuple[Person, list[Person]]:
    doctor, patients = clinic.doctor(time_zone="UTC"), [clinic.patient() for _ in range(4)]
    await warm(replicas, doctor, patients)
    return doctor, patients


async def test_a_booking_is_listed_or_refused(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patients = await people(replicas, clinic)
    seen = set()
    for _ in range(15):
        at = free_time()
        bodies = [(patient, request_for(doctor, at + number * HALF_HOUR)) for number, patient in enumerate(patients)]
        asked, *bookings = await at_once(
            add(replicas[0].client, doctor, doctor, off(at, at + 2 * HOUR)), *posts(replicas, bodies)
        )
        booked = {answer.json()["id"] for answer in bookings if answer.is_success}
        assert codes(bookings).keys() <= {"ok", "outside_availability"}
        if asked.is_success:
            assert not booked
        else:
            assert {one["id"] for one in asked.json()["appointments"]} <= booked
            assert len(booked) == len(patients)
        seen.add(asked.is_success)
        assert {row[0] for row in await database.fetch(IN_LEAVE, doctor.id, at, at + 2 * HOUR)} == booked
    assert seen


async def test_nothing_is_booked_in_a_leave_that_cancels(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patients = await people(replicas, clinic)
    for _ in range(15):
        at = free_time()
        bodies = [(patient, request_for(doctor, at + number * HALF_HOUR)) for number, patient in enumerate(patients)]
        leave, *bookings = await at_once(
            add(replicas[0].client, doctor, doctor, off(at, at + 2 * HOUR), on_conflict="cancel"),
            *posts(replicas, bodies),
        )
        assert leave.status_code == 201
        assert codes(bookings).keys() <= {"ok", "outside_availability"}
        assert await database.fetch(IN_LEAVE, doctor.id, at, at + 2 * HOUR) == []


async def test_a_move_into_a_leave_and_the_leave_do_not_both_succeed(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patients = await people(replicas, clinic)
    for _ in range(15):
        at = free_time()
        (answer,) = await at_once(*posts(replicas, [(patients[0], request_for(doctor, at - 2 * HOUR))]))
        leave, move = await at_once(
            add(replicas[0].client, doctor, doctor, off(at, at + HOUR)),
            change(replicas[1].client, patients[0], answer.json(), dateTime=wire(at)),
        )
        assert {leave.status_code, move.status_code} in ({201, 409}, {409, 200})


async def test_every_process_sees_a_leave_at_once_and_its_end(replicas: list[Served], clinic: Clinic) -> None:
    """Each process has the exceptions of the last revision that it saw."""
    doctor, patients = await people(replicas, clinic)
    at = free_time()
    for number in range(5):
        leave = await added(replicas[number % 2].client, doctor, doctor, off(at, at + HOUR))
        requests = [(patient, request_for(doctor, at)) for patient in patients]
        answers = await asyncio.gather(*posts(replicas, requests))
        assert codes(answers) == {"outside_availability": len(patients)}
        assert (await remove(replicas[1].client, doctor, leave)).status_code == 204
        answers = await at_once(*posts(replicas, requests))
        assert codes(answers) == {"ok": 1, "slot_taken": len(patients) - 1}
        (booked,) = [answer.json() for answer in answers if answer.is_success]
        await change(replicas[0].client, doctor, booked, status="CANCELLED")
