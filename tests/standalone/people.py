"""Users of a running platform, by way of its public API."""

import time
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple
from uuid import uuid4

import httpx

from tests.support.canary import NOTE, PASSWORD, called, new_email
from tests.support.waiting import HANG_SECONDS

_days = count(2)


class Person(NamedTuple):
    id: str
    email: str
    headers: dict[str, str]


def post(
    client: httpx.Client, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> httpx.Response:
    """Send a request, and again under its key while a busy machine answers 503, as a client does."""
    deadline, keyed = time.monotonic() + HANG_SECONDS, {"Idempotency-Key": uuid4().hex, **(headers or {})}
    while (answer := client.post(path, json=body, headers=keyed)).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


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
    answer = post(client, f"/api/{kind}/signup", body)
    assert answer.status_code == 201, answer.text
    return sign_in(client, kind, email, PASSWORD)


def sign_in(client: httpx.Client, kind: str, email: str, password: str) -> Person:
    answer = post(client, f"/api/{kind}/login", {"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    return Person(answer.json()["user"]["id"], email, {"Authorization": f"Bearer {answer.json()['accessToken']}"})


def free_time() -> str:
    """Return a time that no earlier call returned."""
    start = (datetime.now(UTC) + timedelta(days=next(_days))).replace(hour=9, minute=0, second=0, microsecond=0)
    return start.isoformat()


def offer(client: httpx.Client, doctor: Person) -> dict[str, Any]:
    """Add an appointment type to the doctor's."""
    body = {"name": "Consultation", "durationMinutes": 30}
    answer = post(client, f"/api/availability/{doctor.id}/types", body, doctor.headers)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def book(client: httpx.Client, patient: Person, doctor: Person) -> dict[str, Any]:
    wish = {"doctorId": doctor.id, "dateTime": free_time(), "notes": NOTE}
    answer = post(client, "/api/appointments", wish, patient.headers)
    assert answer.status_code == 201, answer.text
    appointment: dict[str, Any] = answer.json()
    return appointment
