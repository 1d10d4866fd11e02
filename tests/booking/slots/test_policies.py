"""What a doctor asks of patients beside the hours, and where an appointment can be moved to."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.booking.clinic import (
    Clinic,
    Person,
    assert_refused,
    book,
    change,
    changed,
    free_time,
    post,
    request_for,
    wire,
)

EVERY_DAY = [{"weekday": weekday, "start": "09:00", "end": "12:00"} for weekday in range(1, 8)]
HOURS: dict[str, Any] = {"timeZone": "UTC", "weekly": [{"hours": EVERY_DAY}]}
HALF_HOUR = timedelta(minutes=30)


async def open_hours(client: httpx.AsyncClient, doctor: Person, **update: Any) -> httpx.Response:
    answer = await client.put(f"/api/availability/{doctor.id}", json={**HOURS, **update}, headers=doctor.headers)
    assert answer.status_code == 200, answer.text
    return answer


async def test_until_the_cut_off_a_patient_cancels_or_moves_and_then_only_the_doctor_does(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, day = clinic.doctor(), clinic.patient(), free_time()
    appointment = await book(client, patient, doctor, day)
    assert (await open_hours(client, doctor, cancellationCutoffMinutes=1440)).json()[
        "cancellationCutoffMinutes"
    ] == 1440
    moved = await changed(client, patient, appointment, dateTime=wire(day + HALF_HOUR))
    in_a_day = "now() + interval '23 hours', now() + interval '24 hours'"
    await database.execute(
        f"UPDATE appointments SET during = tstzrange({in_a_day}), blocked = tstzrange({in_a_day}) WHERE id = $1",
        moved["id"],
    )
    for update in ({"status": "CANCELLED"}, {"dateTime": wire(day)}, {"durationMinutes": 15}):
        problem = assert_refused(await change(client, patient, moved, **update), 409, "cancellation_too_late")
        assert "until 1440 minutes before the start" in problem["detail"]
    await changed(client, patient, moved, notes="I shall be late")
    moved = await changed(client, doctor, moved, dateTime=wire(day))
    await changed(client, patient, moved, status="CANCELLED")


async def test_a_doctor_limits_how_many_appointments_a_patient_has_ahead(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, other, patient, day = clinic.doctor(), clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor, openAppointmentsPerPatient=2)
    times = [day + n * HALF_HOUR for n in range(5)]
    first, _ = [await book(client, patient, doctor, at) for at in times[:2]]
    problem = assert_refused(await post(client, patient, request_for(doctor, times[2])), 409, "too_many_open")
    assert problem["detail"].startswith("At most 2 upcoming appointments with this doctor.")
    await book(client, patient, other, times[2])
    await book(client, clinic.patient(), doctor, times[2])
    by_doctor = request_for(doctor, times[3], patientId=str(patient.id))
    assert (await post(client, doctor, by_doctor)).status_code == 201
    assert_refused(await post(client, patient, request_for(doctor, times[4])), 409, "too_many_open")
    await changed(client, patient, first, dateTime=wire(times[4]))
    await changed(client, patient, first, status="CANCELLED")
    assert_refused(await post(client, patient, request_for(doctor, times[4])), 409, "too_many_open")
    await open_hours(client, doctor)
    await book(client, patient, doctor, times[4])


@pytest.mark.parametrize(
    "update",
    [{"cancellationCutoffMinutes": -1}, {"cancellationCutoffMinutes": 43_201}, {"openAppointmentsPerPatient": 0}],
)
async def test_a_policy_that_makes_no_sense_is_refused_with_its_path(
    client: httpx.AsyncClient, clinic: Clinic, update: dict[str, int]
) -> None:
    doctor = clinic.doctor()
    answer = await client.put(f"/api/availability/{doctor.id}", json={**HOURS, **update}, headers=doctor.headers)
    problem = assert_refused(answer, 400, "invalid_request")
    assert [error["path"] for error in problem["errors"]] == list(update)


async def test_the_slots_to_move_to_have_the_own_time_and_not_the_patients_others(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, other, patient, day = clinic.doctor(), clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor)
    appointment = await book(client, patient, doctor, day)
    await book(client, clinic.patient(), doctor, day + HALF_HOUR)
    await book(client, patient, other, day + 3 * HALF_HOUR)

    async def starts(by: Person | None, **query: Any) -> list[str]:
        query = {"doctorId": str(doctor.id), "from": wire(day), "to": wire(day + timedelta(hours=4)), **query}
        answer = await client.get("/api/slots", params=query, headers=by.headers if by else {})
        assert answer.status_code == 200, answer.text
        return [item["startsAt"][11:16] for item in answer.json()["items"]]

    assert await starts(None) == ["10:00", "10:30", "11:00", "11:30"]
    for by in (patient, doctor, clinic.admin()):
        assert await starts(by, excluding=appointment["id"]) == ["09:00", "10:00", "11:00", "11:30"]
    assert await starts(patient, excluding=appointment["id"], durationMinutes=60) == ["11:00"]
    for at in ("10:00", "11:00", "11:30", "09:00"):
        await changed(client, patient, appointment, dateTime=f"{wire(day)[:11]}{at}:00Z")


async def test_only_its_parties_look_for_a_time_to_move_an_appointment_to(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient, stranger = clinic.doctor(), clinic.patient(), clinic.patient()
    await open_hours(client, doctor)
    appointment = await book(client, patient, doctor, free_time())
    elsewhere = await book(client, patient, clinic.doctor(), free_time())

    async def ask(id: object, by: Person | None) -> httpx.Response:
        query = {"doctorId": str(doctor.id), "excluding": str(id)}
        return await client.get("/api/slots", params=query, headers=by.headers if by else {})

    assert_refused(await ask(appointment["id"], None), 401, "unauthorized")
    assert_refused(await ask(appointment["id"], stranger), 404, "not_found")
    assert_refused(await ask(uuid4(), patient), 404, "not_found")
    problem = assert_refused(await ask(elsewhere["id"], patient), 400, "invalid_request")
    assert problem["errors"][0]["path"] == "excluding"
