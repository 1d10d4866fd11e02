"""A steady load through the ingress, and a ledger of what was acknowledged."""

import asyncio
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Literal

import httpx
import jwt

from tests.e2e.cluster import ORIGIN, Busy, Failed, until

Retry = Literal["nothing", "unavailable", "everything"]

_UNAVAILABLE = " 503 application/problem+json"  # the services' own answer, and not the ingress controller's
_PASSWORD = "correct horse battery staple"
_DOCTORS, _PATIENTS = 4, 8
_RETRY_SECONDS = 60.0
# Far above the services' own limits, so that an answer that takes longer is lost and not only late.
_ANSWER_SECONDS = 30.0


@dataclass
class Account:
    id: str
    email: str
    kind: str
    token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class Load:
    """A client that books and reads at a steady rate.

    `booked` are the acknowledged appointments. `failures` counts failed requests, by what the client saw. `lag` is the
    longest delay, in seconds, with which the client itself sent a request: it shows an overloaded machine.
    """

    per_second: float = 20
    doctors: list[Account] = field(default_factory=list)
    patients: list[Account] = field(default_factory=list)
    booked: dict[str, tuple[str, str]] = field(default_factory=dict)  # appointment: doctor, start
    failures: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    lag: float = 0.0
    _slot: int = 0

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=ORIGIN, timeout=_ANSWER_SECONDS, trust_env=False)

    def prepare(self) -> None:
        with self.client() as client:
            for number in range(_DOCTORS + _PATIENTS):
                kind = "doctors" if number < _DOCTORS else "patients"
                body: dict[str, Any] = {"fullname": f"Load {number}", "password": _PASSWORD}
                body["email"] = f"load-{secrets.token_hex(6)}@example.com"
                if kind == "doctors":
                    body |= {"speciality": "Load", "experience": 1, "consultationFee": "1.00", "timeZone": "UTC"}
                answer = client.post(f"/api/{kind}/signup", json=body)
                if answer.status_code != 201:
                    raise Failed(f"sign-up: {answer.status_code} {answer.text}")
                account = Account(answer.json()["id"], body["email"], kind)
                (self.doctors if kind == "doctors" else self.patients).append(account)

    def sign_in(self) -> None:
        """Renew every access token; they are valid for 15 minutes."""
        if not self.doctors:
            self.prepare()
        with self.client() as client:
            for account in self.doctors + self.patients:
                body = {"email": account.email, "password": _PASSWORD}
                account.token = patiently(client, "POST", f"/api/{account.kind}/login", json=body)["accessToken"]

    def signed_by(self) -> set[str]:
        """Return the ids of the keys that signed the current tokens."""
        return {jwt.get_unverified_header(account.token)["kid"] for account in self.doctors + self.patients}

    @contextmanager
    def running(self, *, retry: Retry = "nothing", per_second: float | None = None) -> Iterator[None]:
        """Send requests while the block runs. The client repeats those that `retry` names, under the same key."""
        self.sign_in()
        self.failures.clear()
        self.sent, self.lag = 0, 0.0
        stop = threading.Event()
        rate = per_second or self.per_second
        thread = threading.Thread(target=lambda: asyncio.run(self._drive(stop, rate, retry)), daemon=True)
        thread.start()
        try:
            time.sleep(2)
            yield
            time.sleep(2)
        finally:
            stop.set()
            thread.join(2 * _RETRY_SECONDS)
            if thread.is_alive():
                raise Failed("a request did not end")

    async def _drive(self, stop: threading.Event, per_second: float, retry: Retry) -> None:
        # A new connection for each request, so that each depends on the state of the ingress and the pods just then.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(base_url=ORIGIN, timeout=_ANSWER_SECONDS, trust_env=False, limits=limits) as client,
            asyncio.TaskGroup() as requests,
        ):
            due = time.monotonic()
            while not stop.is_set():
                self._slot += 1
                requests.create_task(self._send_one(client, self._slot, retry))
                # A slow machine drops the requests that it could not send in time, instead of sending them all at once.
                due = max(due + 1 / per_second, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
                self.lag = max(self.lag, time.monotonic() - due)

    async def _send_one(self, client: httpx.AsyncClient, slot: int, retry: Retry) -> None:
        patient, doctor = self.patients[slot % _PATIENTS], self.doctors[slot % _DOCTORS]
        match slot % 4:
            case 0:
                answer = await self._send(client, retry, "POST", "/api/appointments", **self._booking(slot))
                if answer is not None and answer.status_code == 201:
                    self._note(answer)
            case 1:
                await self._send(client, retry, "GET", f"/api/doctors/{doctor.id}", headers=patient.headers)
            case 2:
                await self._send(client, retry, "GET", "/api/appointments?limit=10", headers=patient.headers)
            case _:
                path = f"/api/notifications/{patient.id}?limit=10"
                await self._send(client, retry, "GET", path, headers=patient.headers)

    def _booking(self, slot: int) -> dict[str, Any]:
        """Describe the request for a half hour that no other request asks for."""
        start = datetime(2031, 1, 1, tzinfo=UTC) + timedelta(minutes=30 * slot)
        patient, doctor = self.patients[slot % _PATIENTS], self.doctors[slot % _DOCTORS]
        return {
            "headers": {**patient.headers, "Idempotency-Key": f"slot-{slot}"},
            "json": {"doctorId": doctor.id, "dateTime": start.strftime("%Y-%m-%dT%H:%M:%SZ")},
        }

    def _note(self, answer: httpx.Response) -> None:
        appointment = answer.json()
        self.booked[appointment["id"]] = (appointment["doctorId"], appointment["dateTime"])

    def book(self, client: httpx.Client, doctor: Account) -> str:
        """Book an appointment with the doctor, and return its id."""
        self._slot = next(slot for slot in count(self._slot + 1) if self.doctors[slot % _DOCTORS] is doctor)
        answer = client.post("/api/appointments", **self._booking(self._slot)).raise_for_status()
        self._note(answer)
        return str(answer.json()["id"])

    async def _send(
        self, client: httpx.AsyncClient, retry: Retry, method: str, path: str, **options: Any
    ) -> httpx.Response | None:
        self.sent += 1
        deadline = time.monotonic() + _RETRY_SECONDS
        while True:
            try:
                answer = await client.request(method, path, **options)
                if answer.status_code < 400:
                    return answer
                problem = (
                    f"{method} {path.split('?')[0][:20]} {answer.status_code} {answer.headers.get('content-type')}"
                )
            except httpx.HTTPError as error:
                problem = f"{method} {path.split('?')[0][:20]} {type(error).__name__}"
            repeated = retry == "everything" or (retry == "unavailable" and _UNAVAILABLE in problem)
            if not repeated or time.monotonic() > deadline:
                self.failures[problem] += 1
                return None
            await asyncio.sleep(0.5)

    def no_failures(self) -> str:
        """Return a summary. Raise `Busy` when the only failures were 503, and `Failed` at any other."""
        if self.failures:
            busy = all(_UNAVAILABLE in problem for problem in self.failures)
            raise (Busy if busy else Failed)(self.summary())
        return self.summary()

    def summary(self) -> str:
        late = f", the client itself up to {self.lag:.1f} s late" if self.lag > 0.5 else ""
        worst = f": {self.failures.most_common(3)}" if self.failures else ""
        return f"{self.sent} requests, {self.failures.total()} failed{late}{worst}"

    def check(self) -> str:
        """Require that every acknowledged booking exists once and its doctor was notified once; return a summary."""
        if len(set(self.booked.values())) != len(self.booked):
            raise Failed("a slot was acknowledged twice")
        self.sign_in()
        with self.client() as client:
            for doctor in self.doctors:
                own = {key: start for key, (owner, start) in self.booked.items() if owner == doctor.id}
                stored = [(item["id"], item["dateTime"]) for item in pages(client, "/api/appointments", doctor)]
                if len({start for _, start in stored}) != len(stored):
                    raise Failed("a doctor has two appointments at one time")
                if missing := own.items() - set(stored):
                    raise Failed(f"acknowledged but missing: {missing}")
                until("every doctor is notified", lambda d=doctor, s=stored: notified_once(client, d, s), 90)  # type: ignore[misc]
        return f"{len(self.booked)} bookings stored, notified once"


def patiently(client: httpx.Client, method: str, path: str, **options: Any) -> Any:
    """Return the answer. Repeat the request for up to a minute while it is answered 503."""

    def answer() -> httpx.Response | None:
        found = client.request(method, path, **options)
        return None if found.status_code == 503 else found.raise_for_status()

    found: httpx.Response = until(f"{method} {path} is answered", answer, _RETRY_SECONDS)
    return found.json()


def notified_once(client: httpx.Client, doctor: Account, appointments: list[tuple[str, str]]) -> bool:
    """Return whether the doctor has a notification of each appointment. Raise `Failed` when there are two of one."""
    counts = Counter(
        item["appointmentId"]
        for item in pages(client, f"/api/notifications/{doctor.id}", doctor)
        if item["type"] == "APPOINTMENT_CREATED"
    )
    if any(count > 1 for count in counts.values()):
        raise Failed("a doctor was notified twice")
    return counts.keys() == {appointment for appointment, _ in appointments}


def pages(client: httpx.Client, path: str, account: Account) -> Iterator[dict[str, Any]]:
    """Yield the items of every page."""
    cursor = None
    while True:
        query = {"limit": "100", **({"cursor": cursor} if cursor else {})}
        page = patiently(client, "GET", path, params=query, headers=account.headers)
        yield from page["items"]
        if not (cursor := page["nextCursor"]):
            return


LOAD = Load()
