"""The slow service as a process of its own."""

import re
from pathlib import Path

from tests.support.process import Process
from tests.support.waiting import eventually

_ENVIRONMENT = {"REDIS_URL": "redis://127.0.0.1:1/0", "PORT": "0", "INTERNAL_PORT": "0"}


class SlowService(Process):
    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(
            "tests.kit.command.slow_service", environment=_ENVIRONMENT | settings, log=folder / "service.log"
        )
        self.log.touch()
        self.start()

    async def logs(self, text: str) -> None:
        """Wait until the output contains the text; fail when the process ends without it."""
        await eventually(lambda: text in self.output or not self.alive)
        assert text in self.output, self.output

    async def ports(self) -> tuple[int, int]:
        """Return the public and the internal port."""
        await self.logs("lifespan begins")
        ports = re.search(r'"port":(\d+),"internal_port":(\d+)', self.output)
        assert ports
        return int(ports[1]), int(ports[2])
