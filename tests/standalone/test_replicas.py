"""Each service as processes of its own, several of some of them, on one set of stores: as they are deployed."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.standalone.people import Person, book, doctor, patient
from tests.support.databases import CloneDatabase, ServerUrls
from tests.support.deployment import Deployment, Stores

_BOOKINGS = 200


@pytest.fixture
async def deployment(
    servers: ServerUrls, clone_database: CloneDatabase, worker_id: str, tmp_path: Path
) -> AsyncIterator[Deployment]:
    number = 56 + (0 if worker_id == "master" else int(worker_id.removeprefix("gw")))
    suffix = uuid4().hex[:12]
    auth, booking = [await clone_database(name, f"{name}_{suffix}") for name in ("auth", "booking")]
    stores = Stores(
        redis_url=f"{servers.redis.removesuffix('/0')}/{number}",
        mongodb_url=servers.mongodb.replace("/?", f"/replicas_{suffix}?"),
        auth=auth,
        booking=booking,
    )
    deployment = Deployment(tmp_path, stores, DOCTOR_APPROVAL="automatic")
    yield deployment
    for process in deployment.all:
        process.kill()


@pytest.fixture
def launch(deployment: Deployment) -> Iterator[Callable[[str], httpx.Client]]:
    """Starts one more replica, and gives a client of it."""
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


def test_bookings_made_while_nobody_notifies_are_told_exactly_once_afterwards(
    deployment: Deployment, launch: Callable[[str], httpx.Client]
) -> None:
    auth = launch("auth")
    bookings = [launch("booking"), launch("booking")]
    her = doctor(auth)
    them = [patient(auth) for _ in range(5)]

    def book_one(number: int) -> str:
        return str(book(bookings[number % 2], them[number % len(them)], her)["id"])

    with ThreadPoolExecutor(8) as clients:
        booked = set(clients.map(book_one, range(_BOOKINGS)))
    assert len(booked) == _BOOKINGS

    told = [launch("notification"), launch("notification")]
    deadline = time.monotonic() + 60
    while len(notifications(told[0], her)) < _BOOKINGS:
        assert time.monotonic() < deadline, deployment.logs
        time.sleep(0.2)
    time.sleep(1)
    assert Counter(item["appointmentId"] for item in notifications(told[1], her)) == dict.fromkeys(booked, 1)
    his = Counter(item["appointmentId"] for person in them for item in notifications(told[0], person))
    assert his == dict.fromkeys(booked, 1)

    # A replica that starts while auth is away knows everybody who is signed in, by the keys that booking kept.
    assert deployment.processes["auth"].pop().stop() == 0
    late = launch("booking")
    assert late.get("/api/appointments", headers=her.headers).status_code == 200
    assert late.get("/api/appointments", headers={"Authorization": "Bearer x.y.z"}).status_code == 401
    book(late, them[0], her)

    for process in deployment.all:
        assert process.stop() == 0, deployment.logs
