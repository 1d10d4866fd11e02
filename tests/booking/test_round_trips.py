"""What a request costs: the round trips that it makes to PostgreSQL, counted on the service's own connections."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.booking.app import create
from services.standalone.databases import DatabaseUrls
from tests.booking.appointment_types.offers import offer, types_path
from tests.booking.clinic import Clinic, change, free_time, post, request_for, settings_of, wire
from tests.booking.holds.holding import booking_of, held, hold_of, release
from tests.support.auth_stub import AuthStub
from tests.support.round_trips import record_connections, trips
from tests.support.running import client_of


@pytest.fixture
async def client(
    monkeypatch: pytest.MonkeyPatch, booking_database: DatabaseUrls, redis_url: str, auth: AuthStub
) -> AsyncIterator[httpx.AsyncClient]:
    record_connections(monkeypatch)
    async with client_of(create(settings_of(booking_database.application, redis_url, auth))) as client:
        yield client


async def test_a_booking_takes_six_round_trips_with_a_key_or_without(client: httpx.AsyncClient, clinic: Clinic) -> None:
    """The obstacles, BEGIN, the locks (and the look-up of the key), the obstacles under them, one INSERT, COMMIT."""
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    await post(client, patient, request_for(doctor, at))
    assert await trips(post(client, patient, request_for(doctor)), 201) == 6
    body, headers = request_for(doctor), {**patient.headers, "Idempotency-Key": uuid4().hex}
    assert await trips(client.post("/api/appointments", json=body, headers=headers), 201) == 6
    assert await trips(client.post("/api/appointments", json=body, headers=headers), 201) == 2
    other = clinic.patient()
    await post(client, other, request_for(doctor))
    assert await trips(post(client, other, request_for(doctor, at)), 409) == 2
    assert await trips(post(client, patient, request_for(doctor, at)), 409) == 1


async def test_booking_a_held_time_takes_as_many_round_trips_as_another_booking(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await held(client, patient, doctor)
    for headers in (patient.headers, {**patient.headers, "Idempotency-Key": uuid4().hex}):
        holding = client.post("/api/holds", json=hold_of(doctor), headers=headers)
        assert await trips(holding, 201) == 6
        (hold,) = (await client.get("/api/holds", params={"limit": 1}, headers=patient.headers)).json()["items"]
        body = booking_of(hold)
        assert await trips(client.post("/api/appointments", json=body, headers=headers), 201) == 6
    assert await trips(client.post("/api/appointments", json=body, headers=headers), 201) == 2
    hold = await held(client, patient, doctor)
    assert await trips(client.get("/api/holds", headers=patient.headers), 200) == 1
    assert await trips(release(client, patient, hold), 204) == 4


async def test_a_booking_of_a_type_takes_as_many_as_any(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await post(client, patient, request_for(doctor))
    one = await offer(client, doctor, bufferAfterMinutes=10, bookableBy="KNOWN_PATIENTS")
    await offer(client, doctor, bufferAfterMinutes=10)
    assert await trips(post(client, patient, request_for(doctor)), 201) == 6
    assert await trips(post(client, patient, request_for(doctor, typeId=one["id"])), 409) == 1
    body = request_for(doctor, typeId=one["id"], patientId=str(patient.id))
    appointment = (await post(client, doctor, body)).json()
    assert await trips(change(client, doctor, appointment, dateTime=wire(free_time())), 200) == 7
    assert await trips(client.get(f"/api/slots?doctorId={doctor.id}&typeId={one['id']}"), 200) == 1
    assert await trips(client.get(types_path(doctor)), 200) == 1


async def test_a_change_takes_four_round_trips_and_seven_when_it_claims_time(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient, admin, at = clinic.doctor(), clinic.patient(), clinic.admin(), free_time()
    appointment = (await post(client, patient, request_for(doctor, at))).json()
    for update in ({"status": "CONFIRMED"}, {"notes": "Another"}):
        assert await trips(change(client, doctor, appointment, **update), 200) == 4
    assert await trips(change(client, doctor, appointment, dateTime=wire(at + timedelta(hours=1))), 200) == 7
    assert await trips(change(client, doctor, appointment, status="CANCELLED"), 200) == 4
    assert await trips(change(client, admin, appointment, status="CONFIRMED", reason="By mistake"), 200) == 7


async def test_reading_takes_one_round_trip(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = (await post(client, patient, request_for(doctor))).json()
    for path in ("", f"/{appointment['id']}", f"/{appointment['id']}/history"):
        assert await trips(client.get(f"/api/appointments{path}", headers=patient.headers), 200) == 1
    assert await trips(client.get(f"/api/slots?doctorId={doctor.id}"), 200) == 1


async def test_a_schedule_is_read_once_a_version(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    for zone in ("UTC", "Asia/Tokyo"):
        body: dict[str, Any] = {"timeZone": zone, "weekly": []}
        await client.put(f"/api/availability/{doctor.id}", json=body, headers=doctor.headers)
        slots = f"/api/slots?doctorId={doctor.id}"
        assert [await trips(client.get(slots), 200) for _ in range(3)] == [2, 1, 1]


async def test_exceptions_are_read_once_a_revision_and_a_booking_takes_no_more(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    leave: dict[str, Any] = {"kind": "OFF", "from": "2030-07-08"}
    path = f"/api/availability/{doctor.id}/exceptions"
    await post(client, patient, request_for(doctor))
    for _ in range(2):
        added = await client.post(path, json=leave, headers=doctor.headers)
        assert [await trips(client.get(f"/api/slots?doctorId={doctor.id}"), 200) for _ in range(3)] == [2, 1, 1]
        assert await trips(post(client, patient, request_for(doctor)), 201) == 6
        await client.delete(added.headers["location"], headers=doctor.headers)
        assert await trips(post(client, patient, request_for(doctor)), 201) == 7
        assert await trips(post(client, patient, request_for(doctor)), 201) == 6
