"""Cancellations by the system of requests that were not answered before their start."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import httpx
import pytest

from services.booking.appointments.system_cancellations import SystemCancellations
from services.booking.errors import CONSTRAINTS
from services.contracts.events import AppointmentCancelled, decode_appointment_event
from services.kit.metrics import create_registry
from services.kit.postgres.database import Database
from services.standalone.databases import DatabaseUrls
from tests.booking.clinic import Clinic, book, change, events_of, get, history, starts_in_the_past

HOUR = timedelta(hours=1)


@pytest.fixture
async def cancellations(booking_database: DatabaseUrls) -> AsyncIterator[SystemCancellations]:
    store = Database(booking_database.application, registry=create_registry(), constraints=CONSTRAINTS)
    await store.open()
    yield SystemCancellations(store)
    await store.close()


async def test_a_request_that_nobody_answered_is_cancelled_at_its_start(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, cancellations: SystemCancellations
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment, later = await book(client, patient, doctor), await book(client, patient, doctor)
    confirmed = (await change(client, doctor, await book(client, patient, doctor), status="CONFIRMED")).json()
    for begun in (appointment, confirmed):
        await starts_in_the_past(database, begun, HOUR * begun["version"])
    await cancellations.cancel_unanswered()
    after = await get(client, patient, appointment)
    assert (after["status"], after["cancellationReason"], after["version"]) == ("CANCELLED", "unanswered", 2)
    entry = (await history(client, doctor, appointment))[-1]
    assert (entry["actorId"], entry["actorRole"], entry["reason"]) == (None, "SYSTEM", "unanswered")
    assert await events_of(database, appointment) == [("AppointmentCreated", 1), ("AppointmentCancelled", 2)]
    payload = await database.fetchval(
        "SELECT payload::text FROM outbox WHERE aggregateid = $1 AND version = 2", appointment["id"]
    )
    event = decode_appointment_event(payload)
    assert isinstance(event, AppointmentCancelled)
    assert event.reason_code == "unanswered"
    assert (await get(client, patient, later))["status"] == "PENDING"
    assert (await get(client, patient, confirmed))["status"] == "CONFIRMED"


async def test_many_replicas_cancel_each_request_once(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, cancellations: SystemCancellations
) -> None:
    doctor = clinic.doctor()
    appointments = [await book(client, clinic.patient(), doctor) for _ in range(10)]
    for number, appointment in enumerate(appointments, 1):
        await starts_in_the_past(database, appointment, number * HOUR)
    await asyncio.gather(*(cancellations.cancel_unanswered() for _ in range(4)))
    for appointment in appointments:
        assert await events_of(database, appointment) == [("AppointmentCreated", 1), ("AppointmentCancelled", 2)]


async def test_a_request_that_somebody_is_just_answering_is_left_alone(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, cancellations: SystemCancellations
) -> None:
    doctor = clinic.doctor()
    appointment = await book(client, clinic.patient(), doctor)
    await starts_in_the_past(database, appointment, HOUR)
    async with database.transaction():
        await database.execute("SELECT FROM appointments WHERE id = $1 FOR UPDATE", appointment["id"])
        await cancellations.cancel_unanswered()
        assert (await get(client, doctor, appointment))["status"] == "PENDING"
    await cancellations.cancel_unanswered()
    assert (await get(client, doctor, appointment))["status"] == "CANCELLED"
