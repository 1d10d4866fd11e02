"""Two processes on one database: whatever happens at once, one legal end and no failure."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from services.standalone.databases import DatabaseUrls
from tests.booking.clinic import (
    Clinic,
    Person,
    book,
    change,
    environment,
    events_of,
    free_time,
    get,
    history,
    wire,
    wish,
)
from tests.support.auth_stub import AuthStub
from tests.support.process import Served, served

HALF_HOUR = timedelta(minutes=30)


@pytest.fixture(scope="module")
async def replicas(booking_database: DatabaseUrls, redis_url: str, auth: AuthStub) -> AsyncIterator[list[Served]]:
    settings = environment(booking_database.application, redis_url, auth)
    async with served("booking", settings) as one, served("booking", settings) as other:
        yield [one, other]
        for replica in (one, other):
            # Not one overlap got as far as the constraints, and nothing deadlocked.
            assert await replica.metric("booking_unseen_conflicts_total") == 0
            assert await replica.metric("database_transaction_retries_total") == 0


async def at_once(*requests: Awaitable[httpx.Response]) -> list[httpx.Response]:
    answers = await asyncio.gather(*requests)
    unexpected = [answer.text for answer in answers if answer.status_code >= 500]
    assert not unexpected, unexpected
    return answers


def posts(
    replicas: list[Served], bodies: list[tuple[Person, dict[str, Any]]], **headers: str
) -> list[Awaitable[httpx.Response]]:
    """Spread over the replicas in turn."""
    return [
        replicas[number % 2].client.post("/api/appointments", json=body, headers={**person.headers, **headers})
        for number, (person, body) in enumerate(bodies)
    ]


def codes(answers: list[httpx.Response]) -> Counter[str]:
    return Counter("ok" if answer.is_success else answer.json()["code"] for answer in answers)


async def warm(replicas: list[Served], doctor: Person, patients: list[Person]) -> None:
    """Booking has got to know them, so that a round is about nothing but the slot."""
    for patient in patients:
        await book(replicas[0].client, patient, doctor)


async def overlaps(database: asyncpg.Connection) -> int:
    return int(
        await database.fetchval(
            """
            SELECT count(*) FROM appointments a JOIN appointments b
            ON a.id < b.id AND (a.doctor_id = b.doctor_id OR a.patient_id = b.patient_id) AND a.during && b.during
            AND a.status IN ('PENDING', 'CONFIRMED') AND b.status IN ('PENDING', 'CONFIRMED')
            AND NOT a.overbooked AND NOT b.overbooked
            """
        )
    )


@pytest.mark.parametrize(("rounds", "clients"), [(40, 10), (3, 64)])
async def test_of_many_who_want_one_slot_exactly_one_gets_it(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection, rounds: int, clients: int
) -> None:
    doctor, patients = clinic.doctor(), [clinic.patient() for _ in range(clients)]
    await warm(replicas, doctor, patients)
    for _ in range(rounds):
        body = wish(doctor)
        answers = await at_once(*posts(replicas, [(patient, body) for patient in patients]))
        assert codes(answers) == {"ok": 1, "slot_taken": clients - 1}
    assert await overlaps(database) == 0


async def test_overlapping_wishes_of_unequal_length_never_overlap_when_granted(
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
                wish(
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
    answers = await at_once(*posts(replicas, [(patient, wish(doctor, at)) for doctor in doctors]))
    assert codes(answers) == {"ok": 1, "patient_busy": 9}


async def test_one_key_used_at_once_makes_one_appointment(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await warm(replicas, doctor, [patient])
    for _ in range(10):
        body, key = wish(doctor), {"Idempotency-Key": uuid4().hex}
        answers = await at_once(*posts(replicas, [(patient, body)] * 10, **key))
        assert codes(answers).keys() <= {"ok", "request_in_progress"}
        (content,) = {answer.content for answer in answers if answer.is_success}
        assert sum("idempotency-replayed" not in answer.headers for answer in answers if answer.is_success) == 1
        (again,) = await at_once(*posts(replicas, [(patient, body)], **key))
        assert (again.status_code, again.content) == (201, content)
    count = "SELECT count(*) FROM appointments WHERE patient_id = $1"
    assert await database.fetchval(count, patient.id) == 11


async def test_two_confirmations_are_one_change(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for _ in range(10):
        visit = await book(replicas[0].client, patient, doctor)
        answers = await at_once(*(change(replica.client, doctor, visit, status="CONFIRMED") for replica in replicas))
        assert [answer.json()["version"] for answer in answers] == [2, 2]
        assert await events_of(database, visit) == [("AppointmentCreated", 1), ("AppointmentUpdated", 2)]


async def test_of_two_changes_meant_for_one_version_one_fails(replicas: list[Served], clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for _ in range(10):
        visit = await book(replicas[0].client, patient, doctor)
        answers = await at_once(
            change(replicas[0].client, doctor, visit, if_match='"1"', status="CONFIRMED"),
            change(replicas[1].client, patient, visit, if_match='"1"', status="CANCELLED"),
        )
        assert codes(answers) == {"ok": 1, "precondition_failed": 1}


async def test_confirming_and_cancelling_at_once_has_a_legal_end(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    for _ in range(20):
        visit = await book(replicas[0].client, patient, doctor)
        confirmed, cancelled = await at_once(
            change(replicas[0].client, doctor, visit, status="CONFIRMED"),
            change(replicas[1].client, patient, visit, status="CANCELLED"),
        )
        assert cancelled.status_code == 200
        assert confirmed.status_code == 200 or confirmed.json()["code"] == "illegal_transition"
        after = await get(replicas[0].client, patient, visit)
        assert after["status"] == "CANCELLED"
        assert (
            after["version"]
            == len(await events_of(database, visit))
            == len(await history(replicas[0].client, patient, visit))
        )


async def test_a_move_and_a_booking_do_not_both_get_the_slot(
    replicas: list[Served], clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, other = clinic.doctor(), clinic.patient(), clinic.patient()
    await warm(replicas, doctor, [patient, other])
    for _ in range(20):
        at = free_time()
        visit = await book(replicas[0].client, patient, doctor, at - timedelta(hours=2))
        answers = await at_once(
            change(replicas[0].client, patient, visit, dateTime=wire(at)),
            *posts(replicas[1:] * 2, [(other, wish(doctor, at))]),
        )
        assert codes(answers) == {"ok": 1, "slot_taken": 1}
    assert await overlaps(database) == 0


async def test_of_two_moves_into_one_slot_one_succeeds(replicas: list[Served], clinic: Clinic) -> None:
    doctor, patients = clinic.doctor(), [clinic.patient(), clinic.patient()]
    for _ in range(20):
        at = free_time()
        visits = [
            await book(replicas[0].client, patient, doctor, at - n * timedelta(hours=1))
            for n, patient in enumerate(patients, 1)
        ]
        answers = await at_once(
            *(
                change(replica.client, patient, visit, dateTime=wire(at))
                for replica, patient, visit in zip(replicas, patients, visits, strict=True)
            )
        )
        assert codes(answers) == {"ok": 1, "slot_taken": 1}


async def test_two_visits_that_want_each_others_place_stay_where_they_are(
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
            visits = [
                await book(replicas[0].client, patient, doctor, time)
                for (patient, doctor), time in zip(pairs, times, strict=True)
            ]
            answers = await at_once(
                *(
                    change(replica.client, patient, visit, dateTime=wire(time))
                    for replica, (patient, _), visit, time in zip(replicas, pairs, visits, reversed(times), strict=True)
                )
            )
            assert {answer.status_code for answer in answers} == {409}


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

    visits: list[dict[str, Any]] = []
    for _ in range(12):
        wishes = [(chance.choice(patients), wish(chance.choice(doctors), time())) for _ in range(8)]
        changes = [
            change(
                chance.choice(replicas).client,
                admin,
                chance.choice(visits),
                **chance.choice(
                    [
                        {"dateTime": wire(time())},
                        {"status": "CONFIRMED", "reason": "Corrected"},
                        {"status": "CANCELLED", "reason": "Corrected"},
                    ]
                ),
            )
            for _ in range(16 if visits else 0)
        ]
        answers = await at_once(*posts(replicas, wishes), *changes)
        assert codes(answers).keys() <= {"ok", "slot_taken", "patient_busy", "illegal_transition"}
        visits += [answer.json() for answer in answers if answer.status_code == 201]
    assert await overlaps(database) == 0
    for visit in visits:
        entries = await history(replicas[0].client, admin, visit)
        after = await get(replicas[0].client, admin, visit)
        assert [entry["version"] for entry in entries] == list(range(1, after["version"] + 1))
        assert [version for _, version in await events_of(database, visit)] == list(range(1, after["version"] + 1))
