"""The round trips to PostgreSQL that each request makes, counted on the service's own connections."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from services.auth.app import create
from services.auth.settings import Settings
from services.contracts.enums import MailKind
from tests.auth.mailbox import Mailbox
from tests.auth.people import People, patient_form
from tests.auth.requests import (
    NEW_PASSWORD,
    change_password,
    confirm_reset,
    log_in,
    refresh,
    request_reset,
    verify_email,
)
from tests.support.canary import PASSWORD, new_email
from tests.support.round_trips import record, record_connections, trips
from tests.support.running import client_of


def _record_statement(_: Any, __: Any, statement: str, *___: Any) -> None:
    """Record what SQLAlchemy sends as a prepared statement; it sends BEGIN and COMMIT by `execute`."""
    record(statement)


@pytest.fixture(autouse=True)
def statements() -> Iterator[None]:
    sa.event.listen(Engine, "before_cursor_execute", _record_statement)
    yield
    sa.event.remove(Engine, "before_cursor_execute", _record_statement)


@pytest.fixture
async def recorded(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    record_connections(monkeypatch)
    async with client_of(create(settings)) as client:
        # SQLAlchemy sends BEGIN and ROLLBACK on each new connection: open one.
        await client.post("/api/patients/signup", json=patient_form())
        yield client


async def test_reading_takes_one_round_trip(recorded: httpx.AsyncClient, people: People) -> None:
    doctor, patient = await people.doctor(), await people.patient()
    for path in ("doctors", f"doctors/{doctor.id}", f"patients/{patient.id}", "auth", "auth/sessions"):
        assert await trips(recorded.get(f"/api/{path}", headers=patient.headers)) == 1, path


async def test_an_admins_reading_takes_a_check_of_the_admin_and_an_entry(
    recorded: httpx.AsyncClient, people: People
) -> None:
    admin, patient = await people.admin(), await people.patient()
    assert await trips(recorded.get(f"/api/patients/{patient.id}", headers=admin.headers)) == 2
    assert await trips(recorded.get("/api/patients", headers=admin.headers)) == 3
    assert await trips(recorded.get("/api/auth/audit", headers=admin.headers)) == 2


async def test_round_trips_of_a_session(recorded: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    assert await trips(log_in(recorded, patient.email)) == 11
    assert await trips(refresh(recorded, patient.refresh_token)) == 7
    assert await trips(recorded.post("/api/auth/logout", headers=patient.headers)) == 5


async def test_round_trips_of_an_account(recorded: httpx.AsyncClient, people: People) -> None:
    assert await trips(recorded.post("/api/patients/signup", json=patient_form())) == 8
    patient, doctor, admin = await people.patient(), await people.pending_doctor(), await people.admin()
    path, update = f"/api/patients/{patient.id}", {"fullname": "New"}
    assert await trips(recorded.patch(path, json=update, headers=patient.headers)) == 7
    assert await trips(recorded.patch(path, json=update, headers=patient.headers)) == 4
    assert await trips(recorded.post(f"/api/doctors/{doctor.id}/approve", headers=admin.headers)) == 7
    assert await trips(recorded.post(f"/api/doctors/{doctor.id}/suspend", headers=admin.headers)) == 11
    erasure = recorded.request("DELETE", "/api/auth", json={"password": PASSWORD}, headers=patient.headers)
    assert await trips(erasure) == 18


async def test_round_trips_of_mails(recorded: httpx.AsyncClient, people: People, mailbox: Mailbox) -> None:
    patient = await people.patient()
    assert await trips(recorded.post("/api/auth/verify-email/request", headers=patient.headers)) == 7
    verification = await mailbox.newest(patient.email, MailKind.VERIFY_EMAIL)
    assert await trips(verify_email(recorded, verification.token)) == 8
    for email in (patient.email, new_email()):
        assert await trips(request_reset(recorded, email)) == 2
    reset = await mailbox.newest(patient.email, MailKind.PASSWORD_RESET)
    assert await trips(confirm_reset(recorded, reset.token)) == 16  # with the notice, as below
    patient = await people.signed_in("auth", patient.email, NEW_PASSWORD)
    assert await trips(change_password(recorded, patient, NEW_PASSWORD, PASSWORD)) == 14
