"""The service as it is deployed: processes of its own, several on the same stores."""

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.notification.conftest import environment_of
from tests.support.auth_stub import AuthStub
from tests.support.forked import Program
from tests.support.streams import eventually


class NotificationProcess:
    def __init__(self, process: Program, log: Path, client: httpx.AsyncClient) -> None:
        self.process, self._log, self._client = process, log, client
        self.url = self._internal = ""

    @property
    def output(self) -> str:
        return self._log.read_text()

    async def serves(self) -> bool:
        """Has a port, answers, and is subscribed."""
        assert self.process.poll() is None, self.output
        for line in self.output.splitlines():
            if '"serving"' in line:
                said = json.loads(line)
                self.url, self._internal = (f"http://127.0.0.1:{said[name]}" for name in ("port", "internal_port"))
        try:
            ready = (await self._client.get(f"{self.url}/api/health")).status_code == 200
            return ready and await self.metric("notification_live_connects_total") > 0
        except (httpx.HTTPError, httpx.InvalidURL):
            return False

    async def metric(self, name: str) -> float:
        lines = (await self._client.get(f"{self._internal}/metrics")).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@asynccontextmanager
async def started(environment: Mapping[str, str]) -> AsyncIterator[tuple[Program, Path]]:
    """A process, which may not be ready yet, with its log; it is killed at the end."""
    with tempfile.NamedTemporaryFile(suffix=".log") as output:
        log = Path(output.name)
        given = {**os.environ, "PORT": "0", "INTERNAL_PORT": "0", "ENVIRONMENT": "test", **environment}
        process = Program("services.notification", "serve", environment=given, output=log)
        try:
            yield process, log
        finally:
            process.kill()
            process.wait()
            output.seek(0)
            print(output.read().decode())  # noqa: T201 - for the search of what was logged


@asynccontextmanager
async def notification_process(auth: AuthStub, mongodb_url: str, redis_url: str) -> AsyncIterator[NotificationProcess]:
    """Ready when the block begins; it ends by SIGTERM, and has to do so cleanly."""
    async with (
        started(environment_of(auth, mongodb_url, redis_url)) as (process, log),
        httpx.AsyncClient(trust_env=False) as client,
    ):
        service = NotificationProcess(process, log, client)
        await eventually(service.serves, 30, every_seconds=0.1)
        yield service
        process.terminate()
        assert await asyncio.to_thread(process.wait, 15) == 0, service.output
