"""A walk through a booking by way of the public API, as a doctor, two patients and an admin would do it."""

import json
import secrets
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from rich.console import Console
from rich.markup import escape

from services.kit.zones import zone
from services.standalone.kept import ADMIN_EMAIL, ADMIN_PASSWORD, KeptSecrets
from services.standalone.settings import Settings
from services.standalone.welcome import origin_of

_ZONE = "Europe/Berlin"
_DELIVERY_SECONDS = 15.0


class Unexpected(Exception):
    """The platform is not there or did not do what it should; the message is for the person at the terminal."""


class Person(NamedTuple):
    id: str
    name: str
    headers: dict[str, str]


class Walk:
    def __init__(self, client: httpx.Client, console: Console) -> None:
        self._client, self._console = client, console
        self._step = 0

    def step(self, text: str) -> None:
        self._step += 1
        self._console.print(f"\n[bold cyan]{self._step:2}[/]  [bold]{escape(text)}[/]")

    def say(self, text: str) -> None:
        self._console.print(f"    {text}")

    def call(self, method: str, path: str, *, expect: int, caller: Person | None = None, **options: Any) -> Any:
        headers = {**(caller.headers if caller else {}), **options.pop("headers", {})}
        response = self._client.request(method, path, headers=headers, **options)
        colour = "green" if response.status_code < 400 else "yellow"
        self.say(f"[dim]{method} {escape(str(response.url.raw_path.decode()))}[/] [{colour}]{response.status_code}[/]")
        if response.status_code != expect:
            raise Unexpected(f"Expected {expect}, got {response.status_code}: {response.text}")
        return response.json()

    def sign_up(self, kind: str, name: str, **details: Any) -> Person:
        """Create an account under a new address and log in."""
        email = f"{name.split()[-1].lower()}.{secrets.token_hex(4)}@example.com"
        password = secrets.token_urlsafe(16)
        body = {"fullname": name, "email": email, "password": password, **details}
        user = self.call("POST", f"/api/{kind}/signup", expect=201, json=body)
        login = self.call("POST", f"/api/{kind}/login", expect=200, json={"email": email, "password": password})
        return Person(user["id"], name, {"Authorization": f"Bearer {login['accessToken']}"})

    def show_notifications(self, person: Person, count: int) -> None:
        """Wait until the person has `count` notifications, and print them."""
        deadline = time.monotonic() + _DELIVERY_SECONDS
        items: list[Any] = []
        while len(items) < count:
            if time.monotonic() > deadline:
                raise Unexpected(f"{person.name} was not notified within {_DELIVERY_SECONDS:.0f} s")
            response = self._client.get(f"/api/notifications/{person.id}", headers=person.headers)
            items = response.raise_for_status().json()["items"]
            time.sleep(0.05)
        for item in reversed(items):
            self.say(f"[magenta]✉[/]  [dim]{escape(item['type'])}[/]  {escape(item['message'])}")

    def confirm_live(self, doctor: Person, patient: Person, appointment: dict[str, Any]) -> None:
        """Confirm the appointment while the patient's live stream is open, and print what arrives there."""
        path = f"/api/notifications/{patient.id}/stream"
        with self._client.stream("GET", path, headers=patient.headers, timeout=_DELIVERY_SECONDS) as stream:
            self.say(f"[dim]GET {path}[/] stays open")
            sent = time.monotonic()
            path, body = f"/api/appointments/{appointment['id']}", {"status": "CONFIRMED"}
            confirmed = self.call("PATCH", path, expect=200, caller=doctor, json=body)
            self.say(f"status {confirmed['status']}, version {confirmed['version']}")
            for line in stream.raise_for_status().iter_lines():
                item = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if item.get("type") == "APPOINTMENT_UPDATED":
                    break
                if time.monotonic() > sent + _DELIVERY_SECONDS:
                    raise Unexpected(f"Nothing arrived on the stream within {_DELIVERY_SECONDS:.0f} s")
        milliseconds = (time.monotonic() - sent) * 1000
        self.say(f"[magenta]⚡[/] live, {milliseconds:.0f} ms after the request: {escape(item['message'])}")


def walk(settings: Settings) -> None:
    """Print each step with its requests. Raise `Unexpected` at the first that fails."""
    console = Console(highlight=False, soft_wrap=True)
    origin = origin_of(settings.host, settings.port)
    with httpx.Client(base_url=origin, timeout=10, trust_env=False) as client:
        try:
            client.get("/api/health").raise_for_status()
        except httpx.HTTPError:
            raise Unexpected(f"Nothing answers at {origin}: start the platform with `make run` first.") from None
        try:
            _walk(Walk(client, console), settings)
        except httpx.HTTPError as error:
            raise Unexpected(f"A request failed: {error!r}") from None
    console.print(f"\n[bold green]Every step worked.[/] The API documents: {origin}/api/docs")


def _walk(walk: Walk, settings: Settings) -> None:
    walk.step("A doctor signs up and appears in the list of her speciality")
    details = {"speciality": "Cardiology", "experience": 12, "consultationFee": "80.00", "timeZone": _ZONE}
    doctor = walk.sign_up("doctors", "Dr. Ada Brandt", **details)
    query = {"speciality": "cardiology", "q": doctor.name, "sort": "-experience", "limit": 100}
    doctors = walk.call("GET", "/api/doctors", expect=200, params=query)["items"]
    if doctor.id not in [item["id"] for item in doctors]:
        raise Unexpected("The doctor is not in the list")
    walk.say(f"found: [bold]{doctor.name}[/], Cardiology, 12 years, 80.00")

    walk.step("She sets her hours: from nine to five, on every day")
    hours = [{"weekday": weekday, "start": "09:00", "end": "17:00"} for weekday in range(1, 8)]
    body = {"timeZone": _ZONE, "slotMinutes": 30, "minimumNoticeMinutes": 60, "weekly": [{"hours": hours}]}
    walk.call("PUT", f"/api/availability/{doctor.id}", expect=200, caller=doctor, json=body)

    walk.step("A patient signs up, looks at the free times of tomorrow and holds the first one")
    patient = walk.sign_up("patients", "Ben Okafor", timeZone="America/New_York")
    hold = _hold_first(walk, doctor, patient)

    walk.step("Another patient asks for the held time and is refused")
    other = walk.sign_up("patients", "Carla Ruiz")
    body = {"doctorId": doctor.id, "dateTime": hold["dateTime"], "notes": "First appointment"}
    refusal = walk.call("POST", "/api/appointments", expect=409, caller=other, json=body)
    walk.say(f"[yellow]{escape(refusal['code'])}[/]: {escape(refusal['title'])}")
    for free in refusal["alternatives"]:
        walk.say(f"  free instead: {escape(free['dateTime'])}")

    walk.step("The patient books the time that he holds")
    appointment = _book_held(walk, patient, hold, body)

    walk.step("The patient lists his appointments")
    for item in walk.call("GET", "/api/appointments", expect=200, caller=patient)["items"]:
        walk.say(f"{item['dateTime']} with [bold]{escape(str(item['doctorName']))}[/], {item['status']}")

    walk.step("The doctor confirms while the patient's live stream is open")
    walk.confirm_live(doctor, patient, appointment)

    walk.step("Both have notifications, each in their own time zone")
    for person in (doctor, patient):
        walk.say(f"[bold]{person.name}[/]")
        walk.show_notifications(person, 2)

    walk.step("The patient cancels, and the other patient gets the time")
    cancellation = {"status": "CANCELLED", "reason": "On a journey"}
    walk.call("PATCH", f"/api/appointments/{appointment['id']}", expect=200, caller=patient, json=cancellation)
    appointment = walk.call("POST", "/api/appointments", expect=201, caller=other, json=body)
    walk.say(f"[bold]{other.name}[/] has it now: {appointment['localDateTime']} {appointment['timeZone']}")

    walk.step("The admin reads the statistics")
    walk.show_notifications(doctor, 4)
    statistics = walk.call("GET", "/api/notifications/stats", expect=200, caller=_admin(walk, settings))
    walk.say(f"notifications: {statistics['total']}, unread: {statistics['unread']}")
    for kind, number in statistics["byType"].items():
        walk.say(f"[dim]{escape(kind):26}[/] {number:4}")


def _hold_first(walk: Walk, doctor: Person, patient: Person) -> Any:
    tomorrow = (datetime.now(zone(_ZONE)) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    query = {"doctorId": doctor.id, "from": tomorrow.isoformat(), "limit": 3}
    slots = walk.call("GET", "/api/slots", expect=200, params=query)["items"]
    for slot in slots:
        walk.say(f"  free: {slot['localStart']} {slot['timeZone']}")
    body = {"doctorId": doctor.id, "dateTime": slots[0]["startsAt"]}
    hold = walk.call("POST", "/api/holds", expect=201, caller=patient, json=body)
    walk.say(f"held until {hold['expiresAt']}: [bold]{hold['localDateTime']}[/] {hold['timeZone']}")
    return hold


def _book_held(walk: Walk, patient: Person, hold: dict[str, Any], body: dict[str, Any]) -> Any:
    body, key = {**body, "holdId": hold["id"]}, {"Idempotency-Key": secrets.token_hex(16)}
    appointment = walk.call("POST", "/api/appointments", expect=201, caller=patient, json=body, headers=key)
    if appointment["id"] != hold["id"]:
        raise Unexpected("The appointment is not the hold")
    walk.say(f"booked: [bold]{appointment['localDateTime']}[/] {appointment['timeZone']}, {appointment['status']}")
    again = walk.call("POST", "/api/appointments", expect=201, caller=patient, json=body, headers=key)
    if again != appointment:
        raise Unexpected("Two requests with one Idempotency-Key booked twice")
    walk.say("sent again with the same Idempotency-Key: the same answer, no second booking")
    return appointment


def _admin(walk: Walk, settings: Settings) -> Person:
    kept = KeptSecrets(Path(settings.data_dir) / "secrets.json")
    email = kept.get(ADMIN_EMAIL) or settings.admin_email
    password = settings.admin_password or kept.get(ADMIN_PASSWORD)
    if not password:
        raise Unexpected("Set ADMIN_PASSWORD to the password that `make run` was started with.")
    body = {"email": email, "password": password}
    login = walk.call("POST", "/api/auth/login", expect=200, json=body)
    return Person(login["user"]["id"], "Admin", {"Authorization": f"Bearer {login['accessToken']}"})
