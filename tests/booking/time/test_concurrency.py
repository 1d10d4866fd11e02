"""Bookings at once, from two processes on one database: one legal end and no failure."""

import random
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.booking.clinic import (
    Clinic,
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


@pytest.mark.parametrize(("rounds", "clients"), [(40, 10), (3, 64)])
async def test_of_many_who_want_one_slot_exactly_one_gets_it(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection, rounds: int, clients: int
) -> None:
    doctor, patients = clinic.doctor(), [clinic.patient() for _ in range(clients)]
    await warm(replicas, doctor, patients)
    for _ in range(rounds):
        body = request_for(doctor)
        answers = await at_once(*posts(replicas, [(patient, body) for patient in patients]))
        assert codes(answers) == {"ok": 1, "slot_taken": clients - 1}
    assert await overlaps(database) == 0


async def test_overlapping_requests_of_unequal_length_never_overlap_when_granted(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctors, patients = [clinic.doctor() for _ in range(2)], [clinic.patient() for _ in range(12)]
    for doctor in doctors:
        await warm(replicas, doctor, patients)
    chance = random.Random(7)
    for _ in range(10):
        at = free_time()
        bodies = [
            (
                patient,
                request_for(
                    chance.choice(doctors),
                    at + timedelta(minutes=chance.randrange(0, 120, 5)),
                    durationMinutes=chance.randrange(5, 120, 5),
                ),
            )
            for patient in patients * 2
        ]
        answers = await at_once(*posts(replicas, bodies))
        assert codes(answers).keys() <= {"ok", "slot_taken", "patient_busy"}
        assert codes(answers)["ok"] >= 2
    assert await overlaps(database) == 0


async def test_a_patient_gets_one_of_many_doctors_at_one_time(replicas: list[Served], clinic: Clinic) -> None:
    patient, doctors = clinic.patient(), [clinic.doctor() for _ in range(10)]
    for doctor in doctors:
        await warm(replicas, doctor, [patient])
    at = free_time()
    answers = await at_once(*posts(replicas, [(patient, request_for(doctor, at)) for doctor in doctors]))
    assert codes(answers) == {"ok": 1, "patient_busy": 9}


async def test_one_key_used_at_once_makes_one_appointment(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await warm(replicas, doctor, [patient])
    for _ in range(10):
        body, key = request_for(doctor), {"Idempotency-Key": uuid4().hex}
        answers = await at_once(*posts(replicas, [(patient, body)] * 10, **key))
        assert codes(answers).keys() <= {"ok", "request_in_progress"}
        (content,) = {answer.content for answer in answers if answer.is_success}
        assert sum("idempotency-replayed" not in answer.headers for answer in answers if answer.is_success) == 1
        (again,) = await at_once(*posts(replicas, [(patient, body)], **key))
        assert (again.status_code, again.content) == (201, content)
    count = "SELECT count(*) FROM appointments WHERE patient_id = $1"
    assert await database.fetchval(count, patient.id) == 11


async def test_everything_at_once_on_a_few_people_deadlocks_nowhere(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    """Bookings, moves, confirmations, cancellations and an admin's corrections, all over the same two hours."""
    doctors, patients, admin = [clinic.doctor() for _ in range(3)], [clinic.patient() for _ in range(4)], clinic.admin()
    for doctor in doctors:
        await warm(replicas, doctor, patients)
    chance, at = random.Random(11), free_time()

    def time() -> datetime:
        return at + timedelta(minutes=chance.randrange(0, 120, 15))

    appointments: list[dict[str, Any]] = []
    for _ in range(12):
        requests = [(chance.choice(patients), request_for(chance.choice(doctors), time())) for _ in range(8)]
        changes = [
            change(
                chance.choice(replicas).client,
                admin,
                chance.choice(appointments),
                **chance.choice(
                    [
                        {"dateTime": wire(time())},
                        {"status": "CONFIRMED", "reason": "Corrected"},
                        {"status": "CANCELLED", "reason": "Corrected"},
                    ]
                ),
            )
            for _ in range(16 if appointments else 0)
        ]
        answers = await at_once(*posts(replicas, requests), *changes)
        assert codes(answers).keys() <= {"ok", "slot_taken", "patient_busy", "illegal_transition"}
        appointments += [answer.json() for answer in answers if answer.status_code == 201]
    assert await overlaps(database) == 0
    for appointment in appointments:
        entries = await history(replicas[0].client, admin, appointment)
        after = await get(replicas[0].client, admin, appointment)
        assert [entry["version"] for entry in entries] == list(range(1, after["version"] + 1))
        assert [version for _, version in await events_of(database, appointment)] == list(
            range(1, after["version"] + 1)
        )
