from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from services.auth.app import create
from services.auth.settings import Settings
from tests.auth.conftest import AUTH_TO_BOOKING
from tests.auth.neighbour import Booking
from tests.auth.people import People, Person
from tests.support.running import client_of


def _visit() -> dict[str, str]:
    return {"id": str(uuid4()), "dateTime": "2030-12-01T09:30:00Z", "status": "CONFIRMED"}


async def _post(client: httpx.AsyncClient, path: str, person: Person | None = None, **query: str) -> httpx.Response:
    return await client.post(path, params=query, headers=person.headers if person else {})


@pytest.mark.parametrize("action", ["approve", "suspend"])
async def test_only_admins_decide_about_doctors(client: httpx.AsyncClient, people: People, action: str) -> None:
    doctor, other = await people.pending_doctor(), await people.doctor()
    patient, admin = await people.patient(), await people.admin()
    path = f"/api/doctors/{doctor.id}/{action}"
    statuses = [(await _post(client, path, person)).status_code for person in (None, patient, other, doctor, admin)]
    assert statuses == [401, 403, 403, 403, 200]


@pytest.mark.parametrize("action", ["approve", "suspend"])
async def test_there_is_nothing_to_decide_about_others(client: httpx.AsyncClient, people: People, action: str) -> None:
    admin, patient = await people.admin(), await people.patient()
    for id in (patient.id, admin.id, str(uuid4()), "not-an-id"):
        assert (await _post(client, f"/api/doctors/{id}/{action}", admin)).status_code == 404


async def test_an_approved_doctor_is_active_and_stays_so_when_approved_again(
    client: httpx.AsyncClient, people: People
) -> None:
    doctor, admin = await people.pending_doctor(), await people.admin()
    first = await _post(client, f"/api/doctors/{doctor.id}/approve", admin)
    assert first.json() == {**doctor.user, "status": "ACTIVE", "updatedAt": first.json()["updatedAt"]}
    second = await _post(client, f"/api/doctors/{doctor.id}/approve", admin)
    assert (second.status_code, second.json()) == (200, first.json())


async def test_a_doctor_without_visits_is_suspended_and_approved_again(
    client: httpx.AsyncClient, people: People, booking: Booking
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


async def test_a_doctor_with_visits_is_suspended_only_when_their_fate_is_decided(
    client: httpx.AsyncClient, people: People, booking: Booking
) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    booking.visits[doctor.id] = visits = [_visit(), _visit()]
    path = f"/api/doctors/{doctor.id}/suspend"
    refused = await _post(client, path, admin)
    assert (refused.status_code, refused.json()["code"]) == (409, "future_appointments")
    assert refused.json()["appointments"] == visits
    assert (await client.get("/api/auth", headers=doctor.headers)).json()["status"] == "ACTIVE"
    asked = len(booking.asked)
    assert (await _post(client, path, admin, onConflict="cancel")).json()["status"] == "SUSPENDED"
    assert len(booking.asked) == asked


async def test_what_becomes_of_visits_is_keep_or_cancel(client: httpx.AsyncClient, people: People) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    for on_conflict in ("delete", "", "KEEP"):
        answer = await _post(client, f"/api/doctors/{doctor.id}/suspend", admin, onConflict=on_conflict)
        assert answer.status_code == 400


@pytest.mark.parametrize("failure", ["away", "without such a route", "not booking"])
async def test_while_booking_does_not_answer_only_a_decided_suspension_works(
    client: httpx.AsyncClient, people: People, settings: Settings, booking: Booking, failure: str
) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    changes: dict[str, Any] = {"booking_internal_url": "http://127.0.0.1:1"}
    if failure != "away":
        booking.visits[doctor.id] = [{"id": "1"}]
        changes["booking_internal_url"] = booking.url + ("/nowhere" if failure == "without such a route" else "")
    async with client_of(create(msgspec.structs.replace(settings, **changes))) as elsewhere:
        path = f"/api/doctors/{doctor.id}/suspend"
        answer = await _post(elsewhere, path, admin)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert (await client.get("/api/auth", headers=doctor.headers)).json()["status"] == "ACTIVE"
        assert (await _post(elsewhere, path, admin, onConflict="keep")).json()["status"] == "SUSPENDED"
