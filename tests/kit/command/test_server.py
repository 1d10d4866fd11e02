import asyncio
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.kit.command import server
from tests.kit.command.processes import SlowService
from tests.support.waiting import eventually


@pytest.fixture
def service(tmp_path: Path) -> Iterator[SlowService]:
    service = SlowService(tmp_path, DRAIN_DELAY_SECONDS="3", SLOW_SECONDS="4")
    yield service
    service.kill()


async def test_a_stopping_service_turns_unready_finishes_its_requests_and_ends(service: SlowService) -> None:
    public, internal = await service.ports()
    url = f"http://127.0.0.1:{public}"
    async with httpx.AsyncClient(trust_env=False) as client:

        async def is_ready() -> bool:
            try:
                return (await client.get(f"{url}/api/health")).status_code == 200
            except httpx.ConnectError:
                return False

        await eventually(is_ready)
        in_flight = asyncio.create_task(client.get(f"{url}/api/slow"))
        await service.logs("request begins")
        service.send(signal.SIGTERM)
        await service.logs('"draining"')
        assert (await client.get(f"{url}/api/health")).status_code == 503
        assert (await client.get(f"{url}/api/health/live")).status_code == 200
        assert (await client.get(f"http://127.0.0.1:{internal}/metrics")).status_code == 200
        assert (await in_flight).json() == {"finished": True}
    assert await asyncio.to_thread(service.wait) == 0
    assert "lifespan ends" in service.output
    assert "Traceback" not in service.output
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", public), timeout=1).close()


async def test_a_request_that_does_not_end_is_cut_after_the_time_allowed(tmp_path: Path) -> None:
    service = SlowService(tmp_path, SHUTDOWN_SECONDS="1", DRAIN_DELAY_SECONDS="0", SLOW_SECONDS="600")
    public, _ = await service.ports()
    transport = httpx.AsyncHTTPTransport(retries=3)
    async with httpx.AsyncClient(transport=transport, timeout=60) as client:
        request = asyncio.create_task(client.get(f"http://127.0.0.1:{public}/api/slow"))
        await service.logs("request begins")
        service.send(signal.SIGINT)
        await asyncio.to_thread(service.wait)
        (outcome,) = await asyncio.gather(request, return_exceptions=True)
    assert isinstance(outcome, httpx.TransportError) or (isinstance(outcome, httpx.Response) and outcome.is_error)


async def test_a_port_that_is_taken_fails_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = SlowService(tmp_path, PORT=str(taken.getsockname()[1]))
        assert await asyncio.to_thread(service.wait) != 0
    assert "Address already in use" in service.output


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds how long TCP waits for a client")
def test_a_client_that_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_UNACKNOWLEDGED_SECONDS", 1)
    listener = server.Listener("127.0.0.1", 0)
    with listener.socket, socket.create_connection(("127.0.0.1", listener.port)):
        accepted, _ = listener.socket.accept()
        accepted.settimeout(60)
        with accepted, pytest.raises(OSError, match="Connection timed out"):
            accepted.sendall(b"x" * 50_000_000)
