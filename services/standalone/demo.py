"""The main job of the platform, walked through its API as the people concerned would."""

import json
import queue
import secrets
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from rich.console import Console
from rich.markup import escape

from services.kit.zones import zone
from services.standalone.kept import ADMIN_PASSWORD, KeptSecrets
from services.standalone.settings import Settings

_ZONE = "Europe/Berlin"
_TOLD_WITHIN_SECONDS = 15.0


class StoryEnded(Exception):
    """Something did not happen as it should. The message is for the person who watches."""


class Person(NamedTuple):
    id: str
    name: str
    headers: dict[str, str]


class Listener:
    """Has the live stream of a person open, in a thread of its own, and keeps what arrives."""

    def __init__(self, origin: str, person: Person) -> None:
        self._origin, self._person = origin, person
        self._opened = threading.Event()
        self._arrived: queue.SimpleQueue[tuple[float, dict[str, Any]]] = queue.SimpleQueue()

    def open(self) -> None:
        # Daemonic, so that the end of the story is the end of the stream.
        threading.Thread(target=self._listen, daemon=True).start()
        if not self._opened.wait(_TOLD_WITHIN_SECONDS):
            raise StoryEnded(f"The live stream did not open within {_TOLD_WITHIN_SECONDS:.0f} s")

    def hears(self, kind: str) -> tuple[float, str]:
        """Waits for the next notification of that type; gives when it arrived, by `time.monotonic`, and its message."""
        deadline = time.monotonic() + _TOLD_WITHIN_SECONDS
        while True:
            try:
                at, told = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise StoryEnded(f"{kind} did not arrive live within {_TOLD_WITHIN_SECONDS:.0f} s") from None
            if told["type"] == kind:
                return at, str(told["message"])

    def _listen(self) -> None:
        path = f"{self._origin}/api/notifications/{self._person.id}/stream"
        try:
            with httpx.stream("GET", path, headers=self._person.headers, timeout=60, trust_env=False) as response:
                response.raise_for_status()
                self._opened.set()
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        self._arrived.put((time.monotonic(), json.loads(line.removeprefix("data: "))))
        except httpx.HTTPError:
            return  # whoever waits for what does not come says so


class Storyteller:
    def __init__(self, client: httpx.Client, console: Console) -> None:
        self._client, self._console = client, console
        self._step = 0

    @property
    def origin(self) -> str:
        return str(self._client.base_url)

    def scene(self, text: str) -> None:
        self._step += 1
        self._console.print(f"\n[bold cyan]{self._step:2}[/]  [bold]{escape(text)}[/]")

    def say(self, text: str) -> None:
        self._console.print(f"    {text}")

    def call(self, method: str, path: str, *, expect: int, who: Person | None = None, **options: Any) -> Any:
        headers = {**(who.headers if who else {}), **options.pop("headers", {})}
        response = self._client.request(method, path, headers=headers, **options)
        colour = "green" if response.status_code < 400 else "yellow"
        self.say(f"[dim]{method} {escape(str(response.url.raw_path.decode()))}[/] [{colour}]{response.status_code}[/]")
        if response.status_code != expect:
            raise StoryEnded(f"Expected {expect}, got {response.status_code}: {response.text}")
        return response.json()

    def joins(self, kind: str, name: str, **details: Any) -> Person:
        """Signs up and logs in, under an address that nobody had before."""
        email = f"{name.split()[-1].lower()}.{secrets.token_hex(4)}@example.com"
        password = secrets.token_urlsafe(16)
        body = {"fullname": name, "email": email, "password": password, **details}
        user = self.call("POST", f"/api/{kind}/signup", expect=201, json=body)
        login = self.call("POST", f"/api/{kind}/login", expect=200, json={"email": email, "password": password})
        return Person(user["id"], name, {"Authorization": f"Bearer {login['accessToken']}"})

    def eventually(self, what: str, found: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + _TOLD_WITHIN_SECONDS
        while not (value := found()):
            if time.monotonic() > deadline:
                raise StoryEnded(f"{what} did not happen within {_TOLD_WITHIN_SECONDS:.0f} s")
            time.sleep(0.05)
        return value

    def is_told(self, person: Person, count: int) -> None:
        """Waits until there are `count` notifications, and shows them."""
        path = f"/api/notifications/{person.id}"

        def all_there() -> list[Any] | None:
            response = self._client.get(path, headers=person.headers).raise_for_status()
            items: list[Any] = response.json()["items"]
            return items if len(items) >= count else None

        for item in reversed(self.eventually(f"Notifying {person.name}", all_there)):
            self.say(f"[magenta]✉[/]  [dim]{escape(item['type'])}[/]  {escape(item['message'])}")


def tell(settings: Settings) -> None:
    """Raises `StoryEnded` where the platform is not there, or does something else than it should."""
    console = Console(highlight=False, soft_wrap=True)
    origin = f"http://{settings.host}:{settings.port}"
    with httpx.Client(base_url=origin, timeout=10, trust_env=False) as client:
        try:
            client.get("/api/health").raise_for_status()
        except httpx.HTTPError:
            raise StoryEnded(f"Nothing answers at {origin}: start the platform with `make run` first.") from None
        _tell(Storyteller(client, console), settings)
    console.print(f"\n[bold green]That was the whole story.[/] The API it used: {origin}/api/docs")


def _tell(story: Storyteller, settings: Settings) -> None:
    story.scene("A doctor signs up, and is found by her speciality")
    doctor = story.joins(
        "doctors",
        "Dr. Ada Brandt",
        speciality="Cardiology",
        experience=12,
        consultationFee="80.00",
        timeZone=_ZONE,
    )
    query = {"speciality": "cardiology", "q": doctor.name, "sort": "-experience", "limit": 100}
    listed = story.call("GET", "/api/doctors", expect=200, params=query)["items"]
    if doctor.id not in [item["id"] for item in listed]:
        raise StoryEnded("The doctor is not in the list")
    story.say(f"found: [bold]{doctor.name}[/], Cardiology, 12 years, 80.00")

    story.scene("A patient signs up and books a visit")
    patient = story.joins("patients", "Ben Okafor", timeZone="America/New_York")
    tomorrow = datetime.now(zone(_ZONE)) + timedelta(days=1)
    start = tomorrow.replace(hour=9, minute=30, second=0, microsecond=0)
    wish = {"doctorId": doctor.id, "dateTime": start.isoformat(), "notes": "First visit"}
    key = {"Idempotency-Key": secrets.token_hex(16)}
    visit = story.call("POST", "/api/appointments", expect=201, who=patient, json=wish, headers=key)
    story.say(f"booked: [bold]{visit['localDateTime']}[/] {visit['timeZone']}, status {visit['status']}")
    again = story.call("POST", "/api/appointments", expect=201, who=patient, json=wish, headers=key)
    if again != visit:
        raise StoryEnded("The same key booked twice")
    story.say("sent again with the same Idempotency-Key: the same answer, no second booking")

    story.scene("Somebody else wants the same slot, and is refused")
    other = story.joins("patients", "Carla Ruiz")
    refusal = story.call("POST", "/api/appointments", expect=409, who=other, json=wish)
    story.say(f"[yellow]{escape(refusal['code'])}[/]: {escape(refusal['title'])}")
    for free in refusal["alternatives"]:
        story.say(f"  free instead: {escape(free['dateTime'])}")

    story.scene("The patient sees the appointment")
    for item in story.call("GET", "/api/appointments", expect=200, who=patient)["items"]:
        story.say(f"{item['dateTime']} with [bold]{escape(str(item['doctorName']))}[/], {item['status']}")

    story.scene("The patient listens, and the doctor confirms")
    listener = Listener(story.origin, patient)
    listener.open()
    story.say(f"[dim]GET /api/notifications/{patient.id}/stream[/] stays open")
    path = f"/api/appointments/{visit['id']}"
    clicked = time.monotonic()
    confirmed = story.call("PATCH", path, expect=200, who=doctor, json={"status": "CONFIRMED"})
    story.say(f"status {confirmed['status']}, version {confirmed['version']}")
    arrived, message = listener.hears("APPOINTMENT_UPDATED")
    story.say(
        f"[magenta]⚡[/] live on the stream, {(arrived - clicked) * 1000:.0f} ms after the click: {escape(message)}"
    )

    story.scene("Both are told, each in their own time zone")
    for person in (doctor, patient):
        story.say(f"[bold]{person.name}[/]")
        story.is_told(person, 2)

    story.scene("The patient cancels, and the slot is free again")
    story.call("PATCH", path, expect=200, who=patient, json={"status": "CANCELLED", "reason": "On a journey"})
    visit = story.call("POST", "/api/appointments", expect=201, who=other, json=wish)
    story.say(f"[bold]{other.name}[/] has it now: {visit['localDateTime']} {visit['timeZone']}")

    story.scene("The admin reads the statistics")
    story.is_told(doctor, 4)
    stats = story.call("GET", "/api/notifications/stats", expect=200, who=_admin(story, settings))
    story.say(f"notifications: {stats['total']}, unread: {stats['unread']}")
    for kind, number in stats["byType"].items():
        story.say(f"[dim]{escape(kind):26}[/] {number:4}")


def _admin(story: Storyteller, settings: Settings) -> Person:
    kept = KeptSecrets(Path(settings.data_dir) / "secrets.json")
    password = settings.admin_password or (ADMIN_PASSWORD in kept and kept[ADMIN_PASSWORD])
    if not password:
        raise StoryEnded("Say the admin's password in ADMIN_PASSWORD, as it was said to `make run`.")
    body = {"email": settings.admin_email, "password": password}
    login = story.call("POST", "/api/auth/login", expect=200, json=body)
    return Person(login["user"]["id"], "Admin", {"Authorization": f"Bearer {login['accessToken']}"})
