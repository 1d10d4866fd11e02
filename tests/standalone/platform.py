"""The whole platform in one process, started as `make run` starts it."""

import os
import re
import signal
import time
from pathlib import Path

import httpx
import psutil

from tests.support.process import Process
from tests.support.quotas import UNLIMITED

_START_SECONDS = 90.0
ORIGIN = "https://app.example.com"  # may call the platform of the session
_SERVICES = ("auth", "booking", "notification")
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
    "USER_REQUESTS_PER_MINUTE",
    *UNLIMITED,
)


class Platform(Process):
    """A platform on any free port. `start` returns before it serves, `ready` once it does."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        super().__init__(
            "services.standalone",
            environment={**passed_on, "DATA_DIR": str(data_dir), "PORT": "0", **environment},
            log=data_dir.with_suffix(".log"),
        )
        self.data_dir = data_dir

    @property
    def url(self) -> str:
        found = re.search(r"^Platform +(http://\S+)", self.output, re.MULTILINE)
        assert found, self.output
        return found[1]

    @property
    def admin_password(self) -> str:
        """The generated password, which only the first start prints."""
        found = re.search(r"admin@example\.com +password (\S+)", self.output)
        assert found, self.output
        return found[1]

    @property
    def server_pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"embedded, process (\d+)", self.output)]

    @property
    def children(self) -> list[int]:
        """The pids of the servers that run now, including those that replaced a dead one."""
        return [child.pid for child in psutil.Process(self.pid).children()]

    def start(self) -> None:
        self.log.write_bytes(b"")
        super().start()

    def started(self) -> "Platform":
        """Start and wait until all services are healthy."""
        self.start()
        deadline = time.monotonic() + _START_SECONDS
        with httpx.Client(trust_env=False) as client:
            while True:
                assert self.alive, self.output
                assert time.monotonic() < deadline, self.output
                try:
                    health = [client.get(f"{self.url}/api/health/{name}") for name in _SERVICES]
                    if all(answer.status_code == 200 for answer in health):
                        return self
                except (AssertionError, httpx.HTTPError):
                    pass
                time.sleep(0.1)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        return super().stop(number)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
