"""Servers as processes of their own: any program, and one replica of a service."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

from tests.support.metrics import total
from tests.support.program import Program
from tests.support.waiting import HANG_SECONDS

_START_SECONDS = 60.0
_STOP_SECONDS = 40.0
# Linux takes the ports of outgoing connections from 32768 upwards: one of those could be the port of a server that is
# being restarted.
_PORTS = range(20_000, 32_000)


def free_ports(number: int) -> list[int]:
    """Find free ports before the processes start, because each process needs the ports of the others."""
    with ExitStack() as closed:
        ports: list[int] = []
        while len(ports) < number:
            try:
                one = socket.create_server(("127.0.0.1", random.choice(_PORTS)))
            except OSError:
                continue
            ports.append(closed.enter_context(one).getsockname()[1])
        return ports


class NotStarted(Exception):
    """The message ends with the last part of the process' log."""


class Process:
    """A server that `start` starts and that logs to a file; a restart appends to it."""

    def __init__(self, *command: str, environment: Mapping[str, str], log: Path) -> None:
        self.name, self.log = log.stem, log
        self.command, self.environment = command, dict(environment)

    def start(self) -> None:
        self._start(self.environment)

    def _start(self, environment: Mapping[str, str]) -> None:
        self._program = Program(*self.command, environment=environment, output=self.log)

    @property
    def pid(self) -> int:
        return self._program.pid

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self._program.poll() is None

    @property
    def cpu_seconds(self) -> float:
        used = psutil.Process(self.pid).cpu_times()
        return float(used.user + used.system)

    @property
    def resident_bytes(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)

    def wait(self, seconds: float = _STOP_SECONDS) -> int:
        return self._program.wait(seconds)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process to drain and stop. Return its exit code, or that of SIGKILL when it takes too long."""
        self.send(number)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        self.send(signal.SIGKILL)
        return self._program.wait()

    def send(self, number: signal.Signals) -> None:
        self._program.send_signal(number)


class ServiceProcess(Process):
    """One replica of a service, with a public and an internal port. It inherits this process' environment."""

    def __init__(
        self, *command: str, environment: Mapping[str, str], log: Path, ports: Sequence[int] | None = None
    ) -> None:
        self.port, self.internal_port = ports or free_ports(2)
        super().__init__(*command, environment=environment, log=log)

    def start(self) -> None:
        own = {"PORT": str(self.port), "INTERNAL_PORT": str(self.internal_port)}
        self._start({**os.environ, **self.environment, **own})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def internal_url(self) -> str:
        return f"http://127.0.0.1:{self.internal_port}"

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        with httpx.Client(trust_env=False) as client:
            while self.alive and time.monotonic() < deadline:
                try:
                    if client.get(f"{self.url}/api/health").status_code < 500:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(0.05)
        raise NotStarted(f"{self.name} did not start:\n{self.output[-3000:]}")

    async def ready(self) -> None:
        await asyncio.to_thread(self.wait_until_ready)


@asynccontextmanager
async def launched(service: str, environment: Mapping[str, str]) -> AsyncIterator[ServiceProcess]:
    """Start one replica without waiting until it is ready, and kill it at the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, f"{service}.log")
        process = ServiceProcess(
            f"services.{service}", "serve", environment={"ENVIRONMENT": "test", **environment}, log=log
        )
        process.start()
        try:
            yield process
        finally:
            process.kill()
            print(process.output)  # noqa: T201 - the log canary searches what a test prints


class Served(NamedTuple):
    """A replica, with clients of its public and its internal port."""

    process: ServiceProcess
    client: httpx.AsyncClient
    internal: httpx.AsyncClient

    async def metric(self, name: str) -> float:
        return total((await self.internal.get("/metrics")).text, name)


@asynccontextmanager
async def served(service: str, environment: Mapping[str, str]) -> AsyncIterator[Served]:
    """Start one replica and wait until it is ready; at the end it must stop cleanly on SIGTERM."""
    async with launched(service, environment) as process:
        await process.ready()
        limits = httpx.Limits(max_connections=None)
        async with (
            httpx.AsyncClient(base_url=process.url, limits=limits, timeout=HANG_SECONDS, trust_env=False) as client,
            httpx.AsyncClient(base_url=process.internal_url, timeout=HANG_SECONDS, trust_env=False) as internal,
        ):
            yield Served(process, client, internal)
        assert await asyncio.to_thread(process.stop) == 0, process.output
