"""Booking as it is deployed: processes of its own, several on one database."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import IO

import httpx

_START_SECONDS = 30.0


class BookingProcess:
    """`client` talks to the public port and `internal` to the other one, over sockets."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, ports: tuple[int, int]) -> None:
        self.process, self.log = process, log
        limits = httpx.Limits(max_connections=None)
        self.client, self.internal = (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=15, trust_env=False)
            for port in ports
        )

    async def metric(self, name: str) -> float:
        lines = (await self.internal.get("/metrics")).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@asynccontextmanager
async def booking_process(environment: Mapping[str, str]) -> AsyncIterator[BookingProcess]:
    """Ready when the block begins; it ends by SIGTERM, and has to do so cleanly."""
    with tempfile.NamedTemporaryFile(suffix=".log") as output:
        log = Path(output.name)
        process = _serve(environment, output)
        try:
            async with asyncio.timeout(_START_SECONDS), AsyncExitStack() as clients:
                booking = BookingProcess(process, log, await _ports(process, log))
                clients.push_async_callback(booking.client.aclose)
                clients.push_async_callback(booking.internal.aclose)
                while (await booking.client.get("/api/health")).status_code != 200:
                    await asyncio.sleep(0.05)
                clients = clients.pop_all()
            async with clients:
                yield booking
            process.terminate()
            assert await asyncio.to_thread(process.wait, 15) == 0, _text(log)
        finally:
            process.kill()
            process.wait()


def _serve(environment: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "services.booking", "serve"],
        env={**os.environ, "PORT": "0", "INTERNAL_PORT": "0", **environment},
        stdout=output,
        stderr=subprocess.STDOUT,
    )


def _text(log: Path) -> str:
    return log.read_text()


async def _ports(process: subprocess.Popen[bytes], log: Path) -> tuple[int, int]:
    while process.poll() is None:
        for line in _text(log).splitlines():
            if '"serving"' in line:
                said = json.loads(line)
                return said["port"], said["internal_port"]
        await asyncio.sleep(0.05)
    raise AssertionError(_text(log))
