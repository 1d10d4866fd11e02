"""Quotas of requests, bookings and writes, small enough for a test to reach."""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from services.booking.app import create
from services.kit.http.service import Service
from services.standalone.databases import DatabaseUrls
from tests.booking.clinic import (
    Clinic,
    assert_refused,
    book,
    change,
    free_time,
    hold,
    is_lock_awaited,
    post,
    request_for,
    settings_of,
)
from tests.booking.holds.holding import hold_of, release
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of, metrics_of
from tests.support.waiting import eventually


class Strict(NamedTuple):
    service: Service
    client: httpx.AsyncClient


@pytest.fixture
async def strict(booking_database: DatabaseUrls, redis_url: str, auth: AuthStub) -> AsyncIterator[Strict]:
    settings = settings_of(booking_database.application, redis_url, auth)
    service = create(replace(settings, user_requests_per_minute=5, patient_bookings_per_hour=2))
    async with client_of(service) as client:
        yield Strict(service, client)


async def test_an_account_that_asks_too_often_is_told_when_to_come_again(strict: Strict, clinic: Clinic) -> None:
    patient, other = clinic.patient(), clinic.patient()
    # A minute may begin meanwhile: of eleven requests six are in one.
    answers = [await strict.client.get("/api/appointments", headers=patient.headers) for _ in range(11)]
    first, refused = answers[0], next(answer for answer in answers if answer.status_code != 200)
    assert first.headers["ratelimit-policy"] == '"requests";q=5;w=60'
    assert first.headers["ratelimit"].startswith('"requests";r=4;t=')
    assert_refused(refused, 429, "too_many_requests")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit"] == f'"requests";r=0;t={refused.headers["retry-after"]}'
    assert (await strict.client.get("/api/appointments", headers=other.headers)).status_code == 200
    assert await refusals(strict.service, "requests") >= 1


async def test_a_patient_books_so_many_times_an_hour_and_a_doctor_as_often_as_needed(
    strict: Strict, clinic: Clinic
) -> None:
    patient, doctor = clinic.patient(), clinic.doctor()
    answers = [await post(strict.client, patient, request_for(doctor)) for _ in range(5)]
    assert [answer.status_code for answer in answers][:2] == [201, 201]
    refused = next(answer for answer in answers if answer.status_code != 201)
    assert_refused(refused, 429, "too_many_requests")
    assert '"bookings";q=2;w=3600' in refused.headers.get_list("ratelimit-policy")
    for _ in range(3):
        await book(strict.client, doctor, doctor, patientId=str(patient.id))
    assert await refusals(strict.service, "bookings") >= 1


async def test_the_same_request_again_books_nothing_and_is_not_counted(strict: Strict, clinic: Clinic) -> None:
    patient, doctor = clinic.patient(), clinic.doctor()
    headers = patient.headers | {"Idempotency-Key": "once"}
    body = request_for(doctor)
    answers = [await strict.client.post("/api/appointments", json=body, headers=headers) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [201] * 4
    assert answers[-1].headers["idempotency-replayed"] == "true"


async def test_who_has_no_account_is_counted_by_address(strict: Strict, clinic: Clinic) -> None:
    answers = [await strict.client.get("/api/appointments") for _ in range(11)]
    refused = next(answer for answer in answers if answer.status_code != 401)
    assert_refused(refused, 429, "too_many_requests")
    assert refused.headers["ratelimit"] == f'"requests";r=0;t={refused.headers["retry-after"]}'
    patient = clinic.patient()
    assert (await strict.client.get("/api/appointments", headers=patient.headers)).status_code == 200


async def test_probes_are_not_counted(strict: Strict) -> None:
    for _ in range(8):
        answer = await strict.client.get("/api/health/live")
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers


async def refusals(service: Service, quota: str) -> float:
    return (await metrics_of(service))[f'quota_refused_total{{quota="{quota}"}}']


async def test_an_account_writes_so_many_times_an_hour_and_an_admin_as_often_as_needed(
    booking_database: DatabaseUrls, redis_url: str, auth: AuthStub, clinic: Clinic
) -> None:
    """Each write adds rows that stay. If an hour begins during the test, four of seven writes are in one hour."""
    settings = replace(settings_of(booking_database.application, redis_url, auth), appointment_writes_per_hour=3)
    patient, doctor, admin = clinic.patient(), clinic.doctor(), clinic.admin()
    service = create(settings)
    async with client_of(service) as client:
        appointment = await book(client, admin, doctor, patientId=str(patient.id))
        for person in (patient, doctor):
            answers = [await change(client, person, appointment, notes=f"{person.id} {number}") for number in range(7)]
            assert [answer.status_code for answer in answers[:3]] == [200] * 3
            refused = next(answer for answer in answers if answer.status_code != 200)
            assert_refused(refused, 429, "too_many_requests")
            assert '"writes";q=3;w=3600' in refused.headers.get_list("ratelimit-policy")
        body = request_for(doctor, patientId=str(patient.id))
        assert 429 in [(await post(client, doctor, body)).status_code for _ in range(4)]
        holder = clinic.patient()
        answers = [await client.post("/api/holds", json=hold_of(doctor), headers=holder.headers) for _ in range(3)]
        answers += [await release(client, holder, answers[0].json()) for _ in range(4)]
        assert [answer.status_code for answer in answers[:3]] == [201] * 3
        assert 429 in [answer.status_code for answer in answers]
        for number in range(7):
            assert (await change(client, admin, appointment, notes=f"{number}")).status_code == 200
        assert await refusals(service, "writes") >= 2


async def test_a_booking_that_is_attempted_twice_counts_once(
    strict: Strict, clinic: Clinic, database: asyncpg.Connection
) -> None:
    """A row that bypassed the locks refuses the first attempt; the second one finds it. A patient has two bookings."""
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    await book(strict.client, patient, doctor)
    async with database.transaction():
        await hold(database, doctor, clinic.patient(), at, "1 minute")
        booking = asyncio.create_task(post(strict.client, patient, request_for(doctor, at)))

        async def waits() -> bool:
            return await is_lock_awaited(database)

        await eventually(waits)
    assert_refused(await booking, 409, "slot_taken")
