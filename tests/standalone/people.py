"""Users of a running platform, by way of its public API."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple

import httpx

from tests.support.canary import NOTE, PASSWORD, called, new_email

_days = count(2)


class Person(NamedTuple):
    id: str
    email: str
    headers: dict[str, str]


def doctor(client: httpx.Client) -> Person:
    details = {"speciality": "Surgery", "experience": 3, "consultationFee": "10.00", "timeZone": "Europe/Berlin"}
    return _sign_up(client, "doctors", details)


def patient(client: httpx.Client) -> Person:
    return _sign_up(client, "patients", {})


def admin(client: httpx.Client, email: str, password: str) -> Person:
    return sign_in(client, "auth", email, password)


def _sign_up(client: httpx.Client, kind: str, details: dict[str, Any]) -> Person:
    email = new_email()
    body = {"fullname": called("Ann"), "email": email, "password": PASSWORD, **details}
    answer = client.post(f"/api/{kind}/signup", json=body)
    assert answer.status_code == 201, answer.text
    return sign_in(client, kind, email, PASSWORD)


def sign_in(client: httpx.Client, kind: str, email: str, password: str) -> Person:
    answer = client.post(f"/api/{kind}/login", json={"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    return Person(answer.json()["user"]["id"], email, {"Authorization": f"Bearer {answer.json()['accessToken']}"})


def free_time() -> str:
    """Return a time that no earlier call returned."""
    start = (datetime.now(UTC) + timedelta(days=next(_days))).replace(hour=9, minute=0, second=0, microsecond=0)
    return start.isoformat()


def offer(client: httpx.Client, doctor: Person) -> dict[str, Any]:
    """Add an appointment type to the doctor's."""
    body = {"name": "Consultation", "durationMinutes": 30}
    answer = client.post(f"/api/availability/{doctor.id}/types", json=body, headers=doctor.headers)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def book(client: httpx.Client, patient: Person, doctor: Person) -> dict[str, Any]:
    wish = {"doctorId": doctor.id, "dateTime": free_time(), "notes": NOTE}
    answer = client.post("/api/appointments", json=wish, headers=patient.headers)
    assert answer.status_code == 201, answer.text
    appointment: dict[str, Any] = answer.json()
    return appointment
