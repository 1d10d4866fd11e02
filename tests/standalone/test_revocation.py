"""Every service refuses writes of an ended session within a second, and reads once the token expires."""

import time
from collections.abc import Callable

import httpx

from tests.standalone.people import admin, book, doctor, patient
from tests.standalone.platform import Platform

_WITHIN_SECONDS = 1.0


def refused(write: Callable[[], httpx.Response]) -> tuple[int, str]:
    """Repeat the write until it is refused, and fail if that takes more than a second."""
    deadline = time.monotonic() + _WITHIN_SECONDS
    while True:
        started = time.monotonic()
        answer = write()
        if answer.status_code >= 400:
            return answer.status_code, answer.json()["code"]
        assert started < deadline, "the write still succeeds after a second"
        time.sleep(0.02)


def test_after_signing_out_every_service_refuses_writes_within_a_second(client: httpx.Client) -> None:
    ann, ada = patient(client), doctor(client)
    appointment = book(client, ann, ada)
    assert client.post("/api/auth/logout", headers=ann.headers).status_code == 204
    path = f"/api/appointments/{appointment['id']}"
    writes: list[Callable[[], httpx.Response]] = [
        lambda: client.patch(path, json={"notes": str(time.monotonic())}, headers=ann.headers),
        lambda: client.post(f"/api/notifications/{ann.id}/read", json={"all": True}, headers=ann.headers),
        lambda: client.patch(f"/api/patients/{ann.id}", json={"phone": None}, headers=ann.headers),
    ]
    assert [refused(write) for write in writes] == [(401, "session_revoked")] * 3
    for read in (path, f"/api/notifications/{ann.id}", "/api/auth"):
        assert client.get(read, headers=ann.headers).status_code == 200


def test_a_suspension_stops_writes_within_a_second(client: httpx.Client, platform: Platform) -> None:
    ann, ada = patient(client), doctor(client)
    appointment = book(client, ann, ada)
    chief_admin = admin(client, "admin@example.com", platform.admin_password)
    suspend = f"/api/doctors/{ada.id}/suspend"
    assert client.post(suspend, params={"onConflict": "keep"}, headers=chief_admin.headers).status_code == 200
    path = f"/api/appointments/{appointment['id']}"
    assert refused(lambda: client.patch(path, json={"notes": str(time.monotonic())}, headers=ada.headers)) == (
        403,
        "account_suspended",
    )
