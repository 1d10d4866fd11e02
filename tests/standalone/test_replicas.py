"""Each service as processes of its own, several of some of them, on one set of stores: as they are deployed."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.auth.sessions.keys import rotate
from services.standalone.databases import DatabaseUrls
from tests.conftest import CloneDatabase, ServerUrls
from tests.running import free_ports
from tests.standalone.people import Person, book, doctor, patient

_START_SECONDS = 60.0
_BOOKINGS = 200


class Deployment:
    """Starts replicas of services, and stops all that it started."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment, self._folder = environment, folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.clients: list[httpx.Client] = []

    def launch(self, service: str, port: int, internal_port: int) -> httpx.Client:
        environment = {**self._environment, "PORT": str(port), "INTERNAL_PORT": str(internal_port)}
        with (self._folder / f"{service}-{port}.log").open("wb") as log:
            command = [sys.executable, "-m", f"services.{service}", "serve"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.processes.append(process)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        self.clients.append(client)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            assert process.poll() is None, self.logs
            assert time.monotonic() < deadline, self.logs
            try:
                if client.get("/api/health").status_code == 200:
                    return client
            except httpx.HTTPError:
                pass
            time.sleep(0.1)

    @property
    def logs(self) -> str:
        return "\n".join(log.read_text()[-3000:] for log in self._folder.glob("*.log"))

    def stop(self, process: "subprocess.Popen[bytes]") -> int:
        process.terminate()
        return process.wait(timeout=40)


@pytest.fixture
async def databases(clone_database: CloneDatabase) -> dict[str, DatabaseUrls]:
    suffix = uuid4().hex[:12]
    return {name: await clone_database(name, f"{name}_{suffix}") for name in ("auth", "booking")}


@pytest.fixture
def ports() -> list[int]:
    return free_ports(12)


@pytest.fixture
def deployment(
    servers: ServerUrls, databases: dict[str, DatabaseUrls], ports: list[int], worker_id: str, tmp_path: Path
) -> Iterator[Deployment]:
    signing_keys = tmp_path / "signing-keys.json"
    rotate(signing_keys)
    number = 32 + (0 if worker_id == "master" else int(worker_id.removeprefix("gw")))
    environment = {
        "REDIS_URL": f"{servers.redis.removesuffix('/0')}/{number}",
        "MONGODB_URL": servers.mongodb.replace("/?", f"/replicas_{uuid4().hex[:12]}?"),
        "AUTH_DATABASE_URL": databases["auth"].application,
        "BOOKING_DATABASE_URL": databases["booking"].application,
        "INTERNAL_TOKEN": "t" * 32,
        "AUTH_SIGNING_KEYS_FILE": str(signing_keys),
        "AUTH_SECRET_KEY": "s" * 32,
        "ADDRESS_LIMITS": "false",
        "DOCTOR_APPROVAL": "automatic",
        "AUTH_INTERNAL_URL": f"http://127.0.0.1:{ports[1]}",
        "BOOKING_INTERNAL_URL": f"http://127.0.0.1:{ports[3]}",
        "JWKS_URL": f"http://127.0.0.1:{ports[0]}/api/auth/.well-known/jwks.json",
    }
    deployment = Deployment(environment, tmp_path)
    yield deployment
    for client in deployment.clients:
        client.close()
    for process in deployment.processes:
        if process.poll() is None:
            process.kill()
            process.wait()


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
    deployment: Deployment, ports: list[int]
) -> None:
    auth = deployment.launch("auth", ports[0], ports[1])
    bookings = [deployment.launch("booking", ports[2], ports[3]), deployment.launch("booking", ports[4], ports[5])]
    her = doctor(auth)
    them = [patient(auth) for _ in range(5)]

    def book_one(number: int) -> str:
        return str(book(bookings[number % 2], them[number % len(them)], her)["id"])

    with ThreadPoolExecutor(8) as clients:
        booked = set(clients.map(book_one, range(_BOOKINGS)))
    assert len(booked) == _BOOKINGS

    told = [
        deployment.launch("notification", ports[6], ports[7]),
        deployment.launch("notification", ports[8], ports[9]),
    ]
    deadline = time.monotonic() + 60
    while len(notifications(told[0], her)) < _BOOKINGS:
        assert time.monotonic() < deadline, deployment.logs
        time.sleep(0.2)
    time.sleep(1)
    assert Counter(item["appointmentId"] for item in notifications(told[1], her)) == dict.fromkeys(booked, 1)
    his = Counter(item["appointmentId"] for person in them for item in notifications(told[0], person))
    assert his == dict.fromkeys(booked, 1)

    # A replica that starts while auth is away knows everybody who is signed in, by the keys that booking kept.
    assert deployment.stop(deployment.processes[0]) == 0
    late = deployment.launch("booking", ports[10], ports[11])
    assert late.get("/api/appointments", headers=her.headers).status_code == 200
    assert late.get("/api/appointments", headers={"Authorization": "Bearer x.y.z"}).status_code == 401
    book(late, them[0], her)

    for process in deployment.processes[1:]:
        assert deployment.stop(process) == 0, deployment.logs
