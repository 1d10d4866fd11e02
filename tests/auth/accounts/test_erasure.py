"""Accounts that their owners erase."""

from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from services.contracts.events import UserErased, decode_user_event
from tests.auth.booking_stub import BookingStub
from tests.auth.mfa.authenticator import enable_mfa
from tests.auth.people import People, Person
from tests.support.canary import PASSWORD

APPOINTMENT = {"id": "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073", "dateTime": "2030-01-01T09:30:00Z", "status": "PENDING"}


async def erase(client: httpx.AsyncClient, person: Person, query: str = "", **body: Any) -> httpx.Response:
    return await client.request(
        "DELETE", f"/api/auth{query}", json={"password": PASSWORD, **body}, headers=person.headers
    )


async def everything(owner: asyncpg.Connection) -> str:
    """Return all rows of all tables but the outbox, whose events are kept for seven days."""
    tables = await owner.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'outbox'")
    return "".join([str(await owner.fetch(f"SELECT * FROM {row['tablename']}")) for row in tables])


@pytest.mark.parametrize("kind", ["patient", "doctor"])
async def test_an_erased_account_has_no_personal_data(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection, kind: str
) -> None:
    make = people.patient if kind == "patient" else people.doctor
    person = await make(fullname=f"Unmistakable {kind.title()}", phone="+49301234599")
    answer = await erase(client, person)
    assert (answer.status_code, answer.content) == (204, b""), answer.text
    left = await everything(owner)
    for trace in (person.email, f"Unmistakable {kind.title()}", "+49301234599"):
        assert trace not in left
    assert person.id in left
    payload = await owner.fetchval(
        "SELECT payload::text FROM outbox WHERE aggregateid = $1 ORDER BY seq DESC LIMIT 1", person.id
    )
    event = decode_user_event(payload)
    assert isinstance(event, UserErased)
    assert (event.user.erased, event.user.full_name, event.user.phone) == (True, "Erased user", None)
    assert event.user.version > 1


async def test_an_erased_account_is_closed_and_its_address_is_free(client: httpx.AsyncClient, people: People) -> None:
    patient, admin = await people.patient(), await people.admin()
    assert (await erase(client, patient)).status_code == 204
    assert (await client.post("/api/auth/refresh", json={"refreshToken": patient.refresh_token})).status_code == 401
    login = {"email": patient.email, "password": PASSWORD}
    assert (await client.post("/api/auth/login", json=login)).status_code == 401
    assert (await client.get("/api/auth", headers=patient.headers)).status_code == 404
    assert (await client.get(f"/api/patients/{patient.id}", headers=admin.headers)).status_code == 404
    assert (await erase(client, patient)).status_code == 403
    again = await people.patient(email=patient.email)
    assert again.id != patient.id


async def test_an_erased_doctor_cannot_be_approved(client: httpx.AsyncClient, people: People) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    assert (await erase(client, doctor)).status_code == 204
    assert (await client.post(f"/api/doctors/{doctor.id}/approve", headers=admin.headers)).status_code == 404
    listed = await client.get("/api/doctors?status=SUSPENDED&limit=100", headers=admin.headers)
    assert doctor.id not in listed.text


async def test_nothing_is_erased_without_the_password(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    refused = await erase(client, patient, password="not the one")
    assert (refused.status_code, refused.json()["code"]) == (403, "wrong_password")
    assert (await client.get("/api/auth", headers=patient.headers)).json()["email"] == patient.email


async def test_nothing_is_erased_without_the_one_time_code(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    _, (recovery_code, *_) = await enable_mfa(client, patient)
    for otp in ({}, {"otp": "000000"}):
        refused = await erase(client, patient, **otp)
        assert (refused.status_code, refused.json()["code"]) == (403, "invalid_otp"), refused.text
    assert (await erase(client, patient, otp=recovery_code)).status_code == 204


@pytest.mark.parametrize("kind", ["patient", "doctor"])
async def test_erasing_an_account_with_upcoming_appointments_takes_on_conflict_cancel(
    client: httpx.AsyncClient, people: People, booking: BookingStub, kind: str
) -> None:
    person = await (people.patient() if kind == "patient" else people.doctor())
    booking.appointments[person.id] = [APPOINTMENT]
    refused = await erase(client, person)
    assert (refused.status_code, refused.json()["code"]) == (409, "future_appointments"), refused.text
    assert refused.json()["appointments"] == [APPOINTMENT]
    assert (await client.get("/api/auth", headers=person.headers)).status_code == 200
    assert (await erase(client, person, "?onConflict=keep")).status_code == 400
    assert (await erase(client, person, "?onConflict=cancel")).status_code == 204


async def test_the_audit_trail_outlives_the_account(client: httpx.AsyncClient, people: People) -> None:
    patient, admin = await people.patient(), await people.admin()
    assert (await erase(client, patient)).status_code == 204
    answer = await client.get("/api/auth/audit", params={"target": patient.id}, headers=admin.headers)
    actions = [one["action"] for one in answer.json()["items"]]
    assert actions == ["account.erased", "login.succeeded", "account.created"]


async def test_the_database_refuses_a_name_on_an_erased_account(people: People, owner: asyncpg.Connection) -> None:
    patient = await people.patient()
    with pytest.raises(asyncpg.CheckViolationError, match="users_erased_is_nobody"):
        await owner.execute("UPDATE users SET erased_at = now() WHERE id = $1", UUID(patient.id))
