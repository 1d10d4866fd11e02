"""Changes at once, from two processes on one database: one legal end and no failure."""

from datetime import timedelta

import asyncpg

from tests.booking.clinic import (
    Clinic,
    book,
    change,
    events_of,
    free_time,
    get,
    history,
    request_for,
    wire,
)
from tests.booking.time.races import at_once, codes, overlaps, posts, warm
from tests.support.process import Served

HALF_HOUR = timedelta(minutes=30)


async def test_two_confirmations_are_one_change(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for _ in range(10):
        appointment = await book(replicas[0].client, patient, doctor)
        answers = await at_once(
            *(change(replica.client, doctor, appointment, status="CONFIRMED") for replica in replicas)
        )
        assert [answer.json()["version"] for answer in answers] == [2, 2]
        assert await events_of(database, appointment) == [("AppointmentCreated", 1), ("AppointmentUpdated", 2)]


async def test_of_two_changes_meant_for_one_version_one_fails(replicas: list[Served], clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for _ in range(10):
        appointment = await book(replicas[0].client, patient, doctor)
        answers = await at_once(
            change(replicas[0].client, doctor, appointment, if_match='"1"', status="CONFIRMED"),
            change(replicas[1].client, patient, appointment, if_match='"1"', status="CANCELLED"),
        )
        assert codes(answers) == {"ok": 1, "precondition_failed": 1}


async def test_confirming_and_cancelling_at_once_has_a_legal_end(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for _ in range(20):
        appointment = await book(replicas[0].client, patient, doctor)
        confirmed, cancelled = await at_once(
            change(replicas[0].client, doctor, appointment, status="CONFIRMED"),
            change(replicas[1].client, patient, appointment, status="CANCELLED"),
        )
        assert cancelled.status_code == 200
        assert confirmed.status_code == 200 or confirmed.json()["code"] == "illegal_transition"
        after = await get(replicas[0].client, patient, appointment)
        assert after["status"] == "CANCELLED"
        assert (
            after["version"]
            == len(await events_of(database, appointment))
            == len(await history(replicas[0].client, patient, appointment))
        )


async def test_a_move_and_a_booking_do_not_both_get_the_slot(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, other = clinic.doctor(), clinic.patient(), clinic.patient()
    await warm(replicas, doctor, [patient, other])
    for _ in range(20):
        at = free_time()
        appointment = await book(replicas[0].client, patient, doctor, at - timedelta(hours=2))
        answers = await at_once(
            change(replicas[0].client, patient, appointment, dateTime=wire(at)),
            *posts(replicas[1:] * 2, [(other, request_for(doctor, at))]),
        )
        assert codes(answers) == {"ok": 1, "slot_taken": 1}
    assert await overlaps(database) == 0


async def test_of_two_moves_into_one_slot_one_succeeds(replicas: list[Served], clinic: Clinic) -> None:
    doctor, patients = clinic.doctor(), [clinic.patient(), clinic.patient()]
    for _ in range(20):
        at = free_time()
        appointments = [
            await book(replicas[0].client, patient, doctor, at - n * timedelta(hours=1))
            for n, patient in enumerate(patients, 1)
        ]
        answers = await at_once(
            *(
                change(replica.client, patient, appointment, dateTime=wire(at))
                for replica, patient, appointment in zip(replicas, patients, appointments, strict=True)
            )
        )
        assert codes(answers) == {"ok": 1, "slot_taken": 1}


async def test_two_appointments_that_want_each_others_place_stay_where_they_are(
    replicas: list[Served], clinic: Clinic
) -> None:
    """Of one doctor, and of two doctors and one patient: the locks are taken in one order, so neither deadlocks."""
    doctor, patient = clinic.doctor(), clinic.patient()
    for pairs in (
        [(clinic.patient(), doctor), (clinic.patient(), doctor)],
        [(patient, clinic.doctor()), (patient, clinic.doctor())],
    ):
        for _ in range(10):
            at = free_time()
            times = [at, at + HALF_HOUR]
            appointments = [
                await book(replicas[0].client, patient, doctor, time)
                for (patient, doctor), time in zip(pairs, times, strict=True)
            ]
            answers = await at_once(
                *(
                    change(replica.client, patient, appointment, dateTime=wire(time))
                    for replica, (patient, _), appointment, time in zip(
                        replicas, pairs, appointments, reversed(times), strict=True
                    )
                )
            )
            assert {answer.status_code for answer in answers} == {409}
