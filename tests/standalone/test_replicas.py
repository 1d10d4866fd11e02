"""Several replicas of the services as processes on one set of stores, as they are deployed."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.standalone.people import Person, book, doctor, patient
from tests.support.deployment import Deployment

_BOOKINGS = 200


@pytest.fixture
def launch(deployment: Deployment) -> Iterator[Callable[[str], httpx.Client]]:
    """Start another replica of a service and return a client of it."""
    with ExitStack() as clients:

        def launch(service: str) -> httpx.Client:
            process = deployment.launch(service)
            process.wait_until_ready()
            return clients.enter_context(httpx.Client(base_url=process.url, timeout=10))

        yield launch


def notifications(client: httpx.Client, person: Person) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {"limit": 100, **({"cursor": cursor} if cursor else {})}
        answer = client.get(f"/api/notifications/{person.id}", params=query, headers=person.headers)
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        cursor = answer.json()["nextCursor"]
        if cursor is None:
            return items


def test_bookings_made_while_notification_is_down_are_notified_exactly_once_afterwards(
    deployment: Deployment, launch: Callable[[str], httpx.Client]
) -> None:
    auth = launch("auth")
    bookings = [launch("booking"), launch("booking")]
    surgeon = doctor(auth)
    patients = [patient(auth) for _ in range(5)]

    def book_one(number: int) -> str:
        return str(book(bookings[number % 2], patients[number % len(patients)], surgeon)["id"])

    with ThreadPoolExecutor(8) as clients:
        booked = set(clients.map(book_one, range(_BOOKINGS)))
    assert len(booked) == _BOOKINGS

    inboxes = [launch("notification"), launch("notification")]
    deadline = time.monotonic() + 60
    while len(notifications(inboxes[0], surgeon)) < _BOOKINGS:
        assert time.monotonic() < deadline, deployment.logs
        time.sleep(0.2)
    time.sleep(1)
    assert Counter(item["appointmentId"] for item in notifications(inboxes[1], surgeon)) == dict.fromkeys(booked, 1)
    received = Counter(item["appointmentId"] for person in patients for item in notifications(inboxes[0], person))
    assert received == dict.fromkeys(booked, 1)

    # A replica that starts while auth is down verifies tokens with the keys that booking stored.
    assert deployment.processes["auth"].pop().stop() == 0
    late = launch("booking")
    assert late.get("/api/appointments", headers=surgeon.headers).status_code == 200
    assert late.get("/api/appointments", headers={"Authorization": "Bearer x.y.z"}).status_code == 401
    book(late, patients[0], surgeon)

    for process in deployment.all:
        assert process.stop() == 0, deployment.logs
