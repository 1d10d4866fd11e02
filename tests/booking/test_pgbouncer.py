"""Two replicas behind a PgBouncer in transaction mode, which has fewer connections to the server than they have."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.booking.app import create
from services.standalone.databases import DatabaseUrls
from tests.booking.bus import Bus, suspended
from tests.booking.clinic import (
    Clinic,
    book,
    changed,
    free_time,
    get,
    is_in_stream,
    post,
    ready,
    request_for,
    settings_of,
    wire,
)
from tests.support.auth_stub import AuthStub
from tests.support.patience import be_patient
from tests.support.pgbouncer import EXECUTABLE, PgBouncer
from tests.support.running import client_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="PgBouncer is not installed")


@pytest.fixture
def bouncer(booking_database: DatabaseUrls, tmp_path: Path) -> Iterator[PgBouncer]:
    with PgBouncer.to(tmp_path, booking_database.application) as bouncer:
        yield bouncer


@pytest.fixture
async def replicas(
    booking_database: DatabaseUrls,
    bouncer: PgBouncer,
    redis_url: str,
    auth: AuthStub,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[list[httpx.AsyncClient]]:
    be_patient(monkeypatch)
    settings = settings_of(bouncer.through(booking_database.application), redis_url, auth)
    async with client_of(create(settings)) as one, client_of(create(settings)) as other:
        yield [one, other]


async def _use(client: httpx.AsyncClient, clinic: Clinic) -> dict[str, Any]:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    appointment = await book(client, patient, doctor, at)
    await changed(client, doctor, appointment, status="CONFIRMED")
    await changed(client, patient, appointment, dateTime=wire(at + timedelta(hours=1)))
    cancelled = await changed(client, patient, appointment, status="CANCELLED")
    assert await get(client, doctor, appointment) == cancelled
    assert (await client.get(f"/api/slots?doctorId={doctor.id}")).status_code == 200
    return appointment


async def test_patients_book_move_and_cancel_and_the_events_are_published(
    replicas: list[httpx.AsyncClient], clinic: Clinic, redis_url: str
) -> None:
    for appointment in await asyncio.gather(*(_use(client, clinic) for client in replicas * 2)):

        async def told(appointment: dict[str, Any] = appointment) -> bool:
            return await is_in_stream(redis_url, appointment)

        await eventually(told)


async def test_of_many_who_ask_for_one_time_one_gets_it(replicas: list[httpx.AsyncClient], clinic: Clinic) -> None:
    doctor, at = clinic.doctor(), free_time()

    async def answer(client: httpx.AsyncClient) -> int:
        patient, body = clinic.patient(), request_for(doctor, at)
        headers = {**patient.headers, "Idempotency-Key": uuid4().hex}
        status = 503
        while status == 503:  # as on a busy machine, where the wait for a connection is too long
            status = (await client.post("/api/appointments", json=body, headers=headers)).status_code
        return status

    assert sorted(await asyncio.gather(*(answer(client) for client in replicas * 5))) == [201, *[409] * 9]


async def test_events_are_handled(replicas: list[httpx.AsyncClient], bus: Bus, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(replicas[0], patient, doctor)
    await bus.tell(suspended(doctor.state, 2))

    async def is_cancelled() -> bool:
        return bool((await get(replicas[1], patient, appointment))["status"] == "CANCELLED")

    await eventually(is_cancelled)


async def test_a_pgbouncer_that_was_killed_is_an_outage_until_it_is_back(
    replicas: list[httpx.AsyncClient], bouncer: PgBouncer, clinic: Clinic
) -> None:
    await _use(replicas[0], clinic)
    bouncer.kill()
    for client in replicas:
        assert (await post(client, clinic.patient(), request_for(clinic.doctor()))).status_code == 503
    bouncer.start()
    for client in replicas:
        await ready(client)
        await _use(client, clinic)
