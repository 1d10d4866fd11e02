import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from time import monotonic

import httpx
import pytest

from services.kit.command import server

ENVIRONMENT = {
    **os.environ,
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "PORT": "0",
    "INTERNAL_PORT": "0",
    "DRAIN_DELAY_SECONDS": "0.7",
}
COMMAND = [sys.executable, "-m", "tests.kit.command.slow_service"]


class Process:
    def __init__(self, **environment: str) -> None:
        self.process = subprocess.Popen(
            COMMAND, env={**ENVIRONMENT, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.output = ""

    def addresses(self) -> tuple[str, str]:
        assert self.process.stdout is not None
        while "lifespan begins" not in self.output:
            line = self.process.stdout.readline()
            assert line, self.output
            self.output += line
        ports = re.search(r'"port":(\d+),"internal_port":(\d+)', self.output)
        assert ports
        return f"http://127.0.0.1:{ports[1]}", f"http://127.0.0.1:{ports[2]}"

    def end(self) -> int:
        rest, _ = self.process.communicate(timeout=15)
        self.output += rest
        return self.process.returncode


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process()
    yield process
    process.process.kill()
    process.process.communicate()


async def test_a_stopping_service_turns_unready_finishes_its_requests_and_ends(process: Process) -> None:
    public, internal = process.addresses()
    async with httpx.AsyncClient() as client:
        for _ in range(100):
            try:
                ready = await client.get(f"{public}/api/health")
                break
            except httpx.ConnectError:
                await asyncio.sleep(0.05)
        assert ready.status_code == 200
        in_flight = asyncio.create_task(client.get(f"{public}/api/slow"))
        await asyncio.sleep(0.2)
        process.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        assert (await client.get(f"{public}/api/health")).status_code == 503
        assert (await client.get(f"{public}/api/health/live")).status_code == 200
        assert (await client.get(f"{internal}/metrics")).status_code == 200
        assert (await in_flight).json() == {"finished": True}
    assert await asyncio.to_thread(process.end) == 0
    assert "lifespan ends" in process.output
    assert "Traceback" not in process.output
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(public.rpartition(":")[2])), timeout=1).close()


async def test_a_request_that_does_not_end_is_cut_after_the_time_allowed() -> None:
    process = Process(SHUTDOWN_SECONDS="1", DRAIN_DELAY_SECONDS="0")
    public, _ = await asyncio.to_thread(process.addresses)
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=3)) as client:
        requests = [asyncio.create_task(client.get(f"{public}/api/slow")) for _ in range(3)]
        await asyncio.sleep(0.2)
        started = monotonic()
        process.process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.end)
        assert monotonic() - started < 5
        await asyncio.gather(*requests, return_exceptions=True)


def test_a_port_that_is_taken_fails_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = Process(PORT=str(taken.getsockname()[1]))
        assert process.end() != 0
    assert "Address already in use" in process.output


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds how long TCP waits for a client")
def test_a_client_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_UNACKNOWLEDGED_SECONDS", 1)
    listener = server.Listener("127.0.0.1", 0)
    with listener.socket, socket.create_connection(("127.0.0.1", listener.port)):
        accepted, _ = listener.socket.accept()
        accepted.settimeout(15)
        with accepted, pytest.raises(OSError, match="Connection timed out"):
            accepted.sendall(b"x" * 50_000_000)
