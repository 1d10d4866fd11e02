"""Clients generated from the OpenAPI documents, as an integrator would generate them, book an appointment."""

import importlib
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.standalone.people import doctor, free_time
from tests.standalone.platform import Platform
from tests.support.canary import PASSWORD, called, new_email
from tests.support.documents import NAMES, SNAPSHOTS


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generate the packages `auth_client`, `booking_client` and `notification_client`."""
    config = tmp_path / "config.yml"
    config.write_text("post_hooks: []")
    generator = Path(sys.executable).with_name("openapi-python-client")
    for name in NAMES:
        command: list[str | Path] = [generator, "generate", "--meta", "none", "--fail-on-warning", "--config", config]
        command += ["--path", SNAPSHOTS / f"{name}.json", "--output-path", tmp_path / f"{name}_client"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.syspath_prepend(tmp_path)


def module(name: str) -> Any:
    return importlib.import_module(name)


def test_the_documents_generate_a_client_that_books(clients: None, platform: Platform, client: Any) -> None:
    models = module("auth_client.models")
    email = new_email()
    with module("auth_client").Client(base_url=platform.url) as anonymous:
        form = models.PatientSignUp(fullname=called("Bo"), email=email, password=PASSWORD)
        module("auth_client.api.patients.sign_up_patient").sync(client=anonymous, body=form)
        login = models.Login(email=email, password=PASSWORD)
        signed_in = module("auth_client.api.sessions.log_in_patient").sync(client=anonymous, body=login)

    when = datetime.fromisoformat(free_time())
    body = module("booking_client.models").AppointmentCreate(doctor_id=UUID(doctor(client).id), date_time=when)
    book = module("booking_client.api.appointments.book_appointment").sync
    with module("booking_client").AuthenticatedClient(platform.url, signed_in.access_token) as patient:
        appointment, refused = (book(client=patient, body=body) for _ in range(2))
    assert (appointment.patient_id, appointment.date_time, appointment.status) == (signed_in.user.id, when, "PENDING")
    assert (refused.status, refused.code) == (409, "patient_busy")

    list_notifications = module("notification_client.api.notifications.list_notifications").sync
    with module("notification_client").AuthenticatedClient(platform.url, signed_in.access_token) as patient:
        assert list_notifications(signed_in.user.id, client=patient).next_cursor is None
