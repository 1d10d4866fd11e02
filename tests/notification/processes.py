"""The service as it is deployed: processes of its own, several on the same stores."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import httpx

from tests.notification.auth_stub import INTERNAL_TOKEN, AuthStub
from tests.notification.streams import eventually


class NotificationProcess:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._log = process, log
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
            async with httpx.AsyncClient(trust_env=False) as client:
                ready = (await client.get(f"{self.url}/api/health")).status_code == 200
            return ready and await self.metric("notification_live_connects_total") > 0
        except (httpx.HTTPError, httpx.InvalidURL):
            return False

    async def metric(self, name: str) -> float:
        async with httpx.AsyncClient(trust_env=False) as client:
            lines = (await client.get(f"{self._internal}/metrics")).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@asynccontextmanager
async def notification_process(auth: AuthStub, mongodb_url: str, redis_url: str) -> AsyncIterator[NotificationProcess]:
    """Ready when the block begins; it ends by SIGTERM, and has to do so cleanly."""
    with tempfile.NamedTemporaryFile(suffix=".log") as output:
        process = _serve(auth, mongodb_url, redis_url, output)
        try:
            service = NotificationProcess(process, Path(output.name))
            await eventually(service.serves, 30)
            yield service
            process.terminate()
            assert await asyncio.to_thread(process.wait, 15) == 0, service.output
        finally:
            process.kill()
            process.wait()


def _serve(auth: AuthStub, mongodb_url: str, redis_url: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
    environment = {
        "MONGODB_URL": mongodb_url,
        "REDIS_URL": redis_url,
        "INTERNAL_TOKEN": INTERNAL_TOKEN,
        "AUTH_INTERNAL_URL": auth.url,
        "JWKS_URL": f"{auth.url}/api/auth/.well-known/jwks.json",
        "PORT": "0",
        "INTERNAL_PORT": "0",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "services.notification", "serve"],
        env={**os.environ, **environment},
        stdout=output,
        stderr=subprocess.STDOUT,
    )
