from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from services.auth.app import create
from services.auth.settings import Settings
from tests.auth.booking_stub import BookingStub
from tests.auth.internal_tokens import AUTH_TO_BOOKING
from tests.auth.people import People, Person
from tests.support.running import client_of


def _appointment() -> dict[str, str]:
    return {"id": str(uuid4()), "dateTime": "2030-12-01T09:30:00Z", "status": "CONFIRMED"}


async def _post(client: httpx.AsyncClient, path: str, person: Person | None = None, **query: str) -> httpx.Response:
    return await client.post(path, params=query, headers=person.headers if person else {})


@pytest.mark.parametrize("action", ["approve", "suspend"])
async def test_only_admins_approve_and_suspend_doctors(client: httpx.AsyncClient, people: People, action: str) -> None:
    doctor, other = await people.pending_doctor(), await people.doctor()
    patient, admin = await people.patient(), await people.admin()
    path = f"/api/doctors/{doctor.id}/{action}"
    statuses = [(await _post(client, path, person)).status_code for person in (None, patient, other, doctor, admin)]
    assert statuses == [401, 403, 403, 403, 200]


@pytest.mark.parametrize("action", ["approve", "suspend"])
async def test_only_doctors_can_be_approved_or_suspended(
    client: httpx.AsyncClient, people: People, action: str
) -> None:
    admin, patient = await people.admin(), await people.patient()
    for id in (patient.id, admin.id, str(uuid4()), "not-an-id"):
        assert (await _post(client, f"/api/doctors/{id}/{action}", admin)).status_code == 404


async def test_approving_a_doctor_twice_changes_nothing_the_second_time(
    client: httpx.AsyncClient, people: People
) -> None:
    doctor, admin = await people.pending_doctor(), await people.admin()
    first = await _post(client, f"/api/doctors/{doctor.id}/approve", admin)
    assert first.json() == {**doctor.user, "status": "ACTIVE", "updatedAt": first.json()["updatedAt"]}
    second = await _post(client, f"/api/doctors/{doctor.id}/approve", admin)
    assert (second.status_code, second.json()) == (200, first.json())


async def test_a_doctor_without_appointments_is_suspended_and_approved_again(
    client: httpx.AsyncClient, people: People, booking: BookingStub
) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    suspended = await _post(client, f"/api/doctors/{doctor.id}/suspend", admin)
    assert (suspended.status_code, suspended.json()["status"]) == (200, "SUSPENDED")
    question = (f"/internal/doctors/{doctor.id}/appointments", f"Bearer {AUTH_TO_BOOKING}")
    assert booking.asked.count(question) == 1
    again = await _post(client, f"/api/doctors/{doctor.id}/suspend", admin)
    assert (again.status_code, again.json()) == (200, suspended.json())
    approved = await _post(client, f"/api/doctors/{doctor.id}/approve", admin)
    assert approved.json()["status"] == "ACTIVE"


async def test_suspending_a_doctor_with_upcoming_appointments_takes_a_decision_about_them(
    client: httpx.AsyncClient, people: People, booking: BookingStub
) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    booking.appointments[doctor.id] = appointments = [_appointment(), _appointment()]
    path = f"/api/doctors/{doctor.id}/suspend"
    refused = await _post(client, path, admin)
    assert (refused.status_code, refused.json()["code"]) == (409, "future_appointments")
    assert refused.json()["appointments"] == appointments
    assert (await client.get("/api/auth", headers=doctor.headers)).json()["status"] == "ACTIVE"
    asked = len(booking.asked)
    assert (await _post(client, path, admin, onConflict="cancel")).json()["status"] == "SUSPENDED"
    assert len(booking.asked) == asked


async def test_on_conflict_is_keep_or_cancel(client: httpx.AsyncClient, people: People) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    for on_conflict in ("delete", "", "KEEP"):
        answer = await _post(client, f"/api/doctors/{doctor.id}/suspend", admin, onConflict=on_conflict)
        assert answer.status_code == 400


@pytest.mark.parametrize("failure", ["unreachable", "unknown route", "malformed answer"])
async def test_without_booking_only_a_suspension_with_on_conflict_succeeds(
    client: httpx.AsyncClient, people: People, settings: Settings, booking: BookingStub, failure: str
) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    changes: dict[str, Any] = {"booking_internal_url": "http://127.0.0.1:1"}
    if failure != "unreachable":
        booking.appointments[doctor.id] = [{"id": "1"}]
        changes["booking_internal_url"] = booking.url + ("/nowhere" if failure == "unknown route" else "")
    async with client_of(create(msgspec.structs.replace(settings, **changes))) as elsewhere:
        path = f"/api/doctors/{doctor.id}/suspend"
        answer = await _post(elsewhere, path, admin)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert (await client.get("/api/auth", headers=doctor.headers)).json()["status"] == "ACTIVE"
        assert (await _post(elsewhere, path, admin, onConflict="keep")).json()["status"] == "SUSPENDED"
