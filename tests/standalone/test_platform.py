import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.standalone.people import post
from tests.standalone.platform import Platform, is_running
from tests.support.program import completed
from tests.support.waiting import HANG_SECONDS

SIGN_UP = {"fullname": "Ann Example", "email": "ann@example.com", "password": "correct horse battery"}


def sign_in(client: httpx.Client, email: str, password: str) -> dict[str, str]:
    login = post(client, "/api/auth/login", {"email": email, "password": password})
    assert login.status_code == 200, login.text
    return {"Authorization": f"Bearer {login.json()['accessToken']}"}


def book(client: httpx.Client, hour: int) -> tuple[dict[str, str], dict[str, Any]]:
    """Sign up a doctor and a patient, book, and return the patient's headers and the appointment."""
    suffix = f"{time.monotonic_ns()}@example.com"
    doctor = {**SIGN_UP, "email": f"doctor{suffix}", "speciality": "Surgery", "experience": 3}
    doctor |= {"consultationFee": "10.00", "timeZone": "UTC"}
    doctor_id = post(client, "/api/doctors/signup", doctor).json()["id"]
    assert post(client, "/api/patients/signup", {**SIGN_UP, "email": f"patient{suffix}"}).status_code == 201
    headers = sign_in(client, f"patient{suffix}", SIGN_UP["password"])
    start = (datetime.now(UTC) + timedelta(days=3)).replace(hour=hour, minute=0, second=0, microsecond=0)
    body = {"doctorId": doctor_id, "dateTime": start.isoformat()}
    answer = post(client, "/api/appointments", body, headers)
    assert answer.status_code == 201, answer.text
    return headers, answer.json()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that the last tests kill and stop."""
    platform = Platform(tmp_path_factory.mktemp("own") / "data").started()
    yield platform
    platform.stop()


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform.url, timeout=10) as client:
        yield client


def test_the_first_start_prints_the_admins_password_and_the_addresses(platform: Platform) -> None:
    assert f"{platform.url}/api/docs" in platform.output
    assert len(platform.server_pids) == 3
    with httpx.Client(base_url=platform.url) as client:
        headers = sign_in(client, "admin@example.com", platform.admin_password)
        assert client.get("/api/auth", headers=headers).json()["role"] == "ADMIN"


def test_the_demo_works_again_and_again(platform: Platform) -> None:
    port = platform.url.rpartition(":")[2]
    for _ in range(2):
        result = completed("services.standalone", "demo", environment={**platform.environment, "PORT": port})
        assert result.returncode == 0, result.stdout + result.stderr
        assert "slot_taken" in result.stdout
        assert result.stdout.count("✉") >= 8
        assert result.stdout.count("⚡") == 1
        assert "Every step worked" in result.stdout


@pytest.mark.parametrize("host", ["::1", "127.0.0.2"])
def test_the_platform_serves_on_any_address_of_the_machine(tmp_path: Path, host: str) -> None:
    platform = Platform(tmp_path / "data", HOST=host).started()
    try:
        shown = f"[{host}]" if ":" in host else host
        assert platform.url.startswith(f"http://{shown}:")
        with httpx.Client(base_url=platform.url, timeout=10, trust_env=False) as client:
            book(client, 9)
        port = platform.url.rpartition(":")[2]
        environment = {"DATA_DIR": str(platform.data_dir), "HOST": host, "PORT": port}
        demo = completed("services.standalone", "demo", environment=environment)
        assert demo.returncode == 0, demo.stdout + demo.stderr
        assert f"{platform.url}/api/docs" in demo.stdout
    finally:
        platform.stop()


def test_the_demo_without_a_platform_explains_how_to_start_one(tmp_path: Path) -> None:
    environment = {**Platform(tmp_path / "data").environment, "PORT": "1"}
    result = completed("services.standalone", "demo", environment=environment)
    assert result.returncode == 2
    assert "make run" in result.stderr


@pytest.mark.parametrize("path", ["/api/docs", "/api/docs/auth", "/api/docs/booking", "/api/docs/notification"])
def test_the_api_documents_are_served_with_a_strict_policy(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-type"].startswith("text/html")
    assert headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]


def test_an_unknown_path_is_a_problem_document(client: httpx.Client) -> None:
    for path in ("/", "/api", "/api/appointment", "/api/doctorsX", "/favicon.ico"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"


def test_the_internal_routes_are_not_reachable(client: httpx.Client) -> None:
    for path in ("/metrics", "/internal/users/018f0000-0000-7000-8000-000000000000"):
        assert client.get(path).status_code == 404


def test_a_folder_in_use_a_taken_port_and_a_malformed_setting_are_explained(platform: Platform, tmp_path: Path) -> None:
    data_dir = Path(platform.environment["DATA_DIR"])
    port = platform.url.rpartition(":")[2]
    for environment, expected in (
        ({"DATA_DIR": str(data_dir)}, "in use by process"),
        ({"PORT": port}, f"port {port}: Address already in use"),
        ({"PORT": "http"}, "PORT is malformed"),
        ({"AUTH_DATABASE_URL": "mysql://x"}, "AUTH_DATABASE_URL is malformed"),
    ):
        other = Platform(tmp_path / "other", **environment)
        other.start()
        assert other.wait(60) == 2
        assert expected in other.output
        assert "Traceback" not in other.output


def test_a_dead_embedded_server_is_restarted(platform: Platform) -> None:
    with httpx.Client(base_url=platform.url, timeout=10) as client:
        headers, appointment = book(client, 9)
        killed = set(platform.server_pids)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        path = f"/api/appointments/{appointment['id']}"
        deadline = time.monotonic() + HANG_SECONDS
        # The servers may be back before any request has met the outage.
        while len(running := set(platform.children)) < len(killed) or running & killed:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        while (answer := client.get(path, headers=headers)).status_code == 503:
            assert answer.headers["retry-after"]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert answer.json() == appointment
        # A pool notices that a connection is dead only when it uses it.
        while client.post("/api/patients/signup", json=SIGN_UP).status_code == 503:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        book(client, 10)


def test_data_survives_a_kill_and_a_restart(platform: Platform) -> None:
    with httpx.Client(base_url=platform.url, timeout=10) as client:
        headers, appointment = book(client, 11)
    first_servers = platform.children
    platform.stop(signal.SIGKILL)
    platform.started()
    assert "password" not in platform.output
    assert not any(is_running(pid) for pid in first_servers)
    with httpx.Client(base_url=platform.url, timeout=10) as client:
        answer = client.get(f"/api/appointments/{appointment['id']}", headers=headers)
        assert answer.json() == appointment
        notifications = f"/api/notifications/{appointment['patientId']}"
        deadline = time.monotonic() + 60  # entries of the killed consumer are claimed after 10 to 15 s
        while len(client.get(notifications, headers=headers).json()["items"]) != 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_ctrl_c_stops_only_this_platforms_servers(platform: Platform, tmp_path: Path) -> None:
    other = Platform(tmp_path / "data", ADMIN_EMAIL="boss@example.com", ADMIN_PASSWORD="chosen by the boss").started()
    try:
        servers = platform.children
        assert platform.stop(signal.SIGINT) == 0
        assert not any(is_running(pid) for pid in servers)
        assert all(is_running(pid) for pid in other.server_pids)
        assert "chosen by the boss" not in other.output
        with httpx.Client(base_url=other.url, timeout=10) as client:
            sign_in(client, "boss@example.com", "chosen by the boss")
        # The variables were of `make run` alone.
        environment = {"DATA_DIR": str(tmp_path / "data"), "PORT": other.url.rpartition(":")[2]}
        demo = completed("services.standalone", "demo", environment=environment)
        assert demo.returncode == 0, demo.stdout + demo.stderr
    finally:
        other.stop()
    assert not any(is_running(pid) for pid in other.server_pids)
