"""Users whose every field is marked use the platform. No mark is in its logs, metrics or appointment events."""

import re
import threading
from collections.abc import Iterator
from time import monotonic, sleep
from urllib.parse import quote
from uuid import uuid4

import httpx
import psutil
import pytest
from redis import Redis

from services.standalone.kept import KeptSecrets
from tests.standalone.people import free_time
from tests.standalone.platform import Platform

MARK = f"canary{uuid4().hex[:12]}"
STREAM = "booking.appointments"
PASSWORD = f"{MARK} password"


def sign_up(client: httpx.Client, kind: str, **details: object) -> tuple[str, dict[str, str]]:
    """Create an account whose every field is marked, and return its id and its secrets by name."""
    email = f"{kind}.{MARK}@example.com"
    body = {"fullname": f"{kind} {MARK}", "email": email, "password": PASSWORD, "phone": "+4930987654321", **details}
    answer = client.post(f"/api/{kind}/signup", json=body)
    assert answer.status_code == 201, answer.text
    for wrong in ({"password": f"{PASSWORD} wrong"}, {"password": f"{MARK}\x00"}, {MARK: PASSWORD}):
        assert client.post(f"/api/{kind}/login", json={"email": email, **wrong}).status_code in (400, 401)
    answer = client.post(f"/api/{kind}/login", json={"email": email, "password": PASSWORD})
    tokens = {name: value for name, value in answer.json().items() if name.endswith("Token")}
    refreshed = client.post("/api/auth/refresh", json={"refreshToken": tokens["refreshToken"]}).json()
    return answer.json()["user"]["id"], {**tokens, "newToken": refreshed["accessToken"]}


@pytest.fixture(scope="module")
def events(platform: Platform) -> Iterator[list[str]]:
    """Collect appointment events as they arrive, because the relay trims the ones that were acknowledged."""
    port = re.search(r"^port (\d+)", next(platform.data_dir.rglob("valkey.conf")).read_text(), re.MULTILINE)
    assert port
    password = KeptSecrets(platform.data_dir / "secrets.json")["valkey"]
    found: list[str] = []
    stop, listening = threading.Event(), threading.Event()

    def read() -> None:
        with Redis(port=int(port[1]), password=password, decode_responses=True) as redis:
            after = redis.xinfo_stream(STREAM)["last-generated-id"] if redis.exists(STREAM) else "0"
            listening.set()
            while not stop.is_set():
                for _, entries in redis.xread({STREAM: after}, block=200) or []:
                    found.extend(str(fields) for _, fields in entries)
                    after = entries[-1][0]

    reader = threading.Thread(target=read)
    reader.start()
    assert listening.wait(10)
    yield found
    stop.set()
    reader.join()


@pytest.fixture(scope="module")
def secrets(client: httpx.Client, events: list[str]) -> list[str]:
    """Use every kind of request with marked data, wait until it is processed, and return all secrets involved."""
    speciality = {"speciality": MARK, "experience": 3, "consultationFee": "10.00", "timeZone": "UTC"}
    doctor, of_doctor = sign_up(client, "doctors", **speciality)
    patient, of_patient = sign_up(client, "patients")
    headers = {"Authorization": f"Bearer {of_patient['accessToken']}", "User-Agent": MARK}
    body = {"doctorId": doctor, "dateTime": free_time(), "notes": f"{MARK} notes"}
    appointment = client.post("/api/appointments", json=body, headers=headers).json()
    path = f"/api/appointments/{appointment['id']}"
    ticket = client.post(f"/api/notifications/{patient}/stream-ticket", headers=headers).json()["ticket"]
    moved = {"dateTime": free_time()}
    for change in ({"notes": f"{MARK} more"}, moved, {"status": "CANCELLED", "reason": f"{MARK} reason"}):
        assert client.patch(path, json=change, headers=headers).status_code == 200
    # Failures are the most likely to be logged.
    key = {"Idempotency-Key": MARK}
    assert client.post("/api/appointments", json=body | {"reason": 1}, headers=headers | key).status_code == 400
    assert client.post("/api/appointments", content=f'{{"notes": "{MARK}', headers=headers).status_code in (400, 415)
    assert client.get(f"/api/notifications/{patient}/stream", params={"ticket": f"{ticket}x"}).status_code == 401
    assert client.get("/api/doctors", params={"q": MARK, "limit": MARK}).status_code == 400
    assert client.get(f"/api/{MARK}/{quote(PASSWORD)}").status_code == 404
    bad = {"Authorization": f"Bearer {of_patient['accessToken']}{MARK}", "X-Request-ID": f"{MARK} is no id"}
    assert client.get("/api/auth", headers=bad).status_code == 401
    assert client.post("/api/auth/password-reset", json={"email": f"patients.{MARK}@example.com"}).status_code == 202
    new = {"currentPassword": PASSWORD, "password": f"{PASSWORD} new"}
    assert client.post("/api/auth/password", json=new, headers=headers).status_code == 204
    deadline = monotonic() + 30
    while len(client.get(f"/api/notifications/{patient}", headers=headers).json()["items"]) < 3:
        assert monotonic() < deadline
        sleep(0.1)
    return [MARK, quote(PASSWORD), "+4930987654321", ticket, *of_doctor.values(), *of_patient.values()]


def leaked(text: str, secrets: list[str]) -> list[str]:
    return [secret for secret in secrets if secret in text]


def metrics_pages(platform: Platform) -> Iterator[str]:
    for connection in psutil.Process(platform.pid).net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN:
            answer = httpx.get(f"http://127.0.0.1:{connection.laddr.port}/metrics", trust_env=False)
            if answer.status_code == 200:
                yield answer.text


def test_logs_contain_no_secrets(platform: Platform, secrets: list[str]) -> None:
    logs = [platform.data_dir.with_suffix(".log"), *platform.data_dir.rglob("*.log")]
    assert "route=/api/appointments" in logs[0].read_text() or '"route":"/api/appointments"' in logs[0].read_text()
    assert len(logs) > 1, "the embedded servers write logs as well"
    assert {log.name: found for log in logs if (found := leaked(log.read_text(errors="replace"), secrets))} == {}


def test_metrics_contain_no_secrets(platform: Platform, secrets: list[str]) -> None:
    pages = list(metrics_pages(platform))
    assert len(pages) == 3
    assert all("http_requests_total" in page for page in pages)
    assert [leaked(page, secrets) for page in pages] == [[], [], []]


def test_appointment_events_contain_no_secrets(secrets: list[str], events: list[str]) -> None:
    deadline = monotonic() + 10
    while len(events) < 4:
        assert monotonic() < deadline
        sleep(0.1)
    assert leaked("".join(events), secrets) == []
