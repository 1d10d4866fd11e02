"""The whole platform as its own process, as `make run` starts it."""

import os
import re
import signal
import time
from pathlib import Path

import httpx
import psutil

from tests.support.forked import Program

_START_SECONDS = 90.0
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
    "USER_REQUESTS_PER_MINUTE",
    "PATIENT_BOOKINGS_PER_HOUR",
)


class Platform:
    """`start` returns when it answers; `output` has what it printed."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        self.environment = {**passed_on, "DATA_DIR": str(data_dir), "PORT": "0", **environment}
        self.data_dir = data_dir
        self._log = data_dir.with_suffix(".log")
        self.process: Program | None = None

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def url(self) -> str:
        found = re.search(r"^Platform +(http://\S+)", self.output, re.MULTILINE)
        assert found, self.output
        return found[1]

    @property
    def admin_password(self) -> str:
        """Printed by the first start only, and only where nobody chose one."""
        found = re.search(r"admin@example\.com +password (\S+)", self.output)
        assert found, self.output
        return found[1]

    @property
    def server_pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"embedded, process (\d+)", self.output)]

    @property
    def children(self) -> list[int]:
        """The servers that it has now; those that died were replaced."""
        assert self.process is not None
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def launch(self) -> Program:
        self._log.write_bytes(b"")
        self.process = Program("services.standalone", environment=self.environment, output=self._log)
        return self.process

    def start(self) -> "Platform":
        process = self.launch()
        deadline = time.monotonic() + _START_SECONDS
        with httpx.Client(trust_env=False) as client:
            while True:
                assert process.poll() is None, self.output
                assert time.monotonic() < deadline, self.output
                try:
                    services = ("auth", "booking", "notification")
                    health = [client.get(f"{self.url}/api/health/{name}") for name in services]
                    if all(answer.status_code == 200 for answer in health):
                        return self
                except (AssertionError, httpx.HTTPError):
                    pass
                time.sleep(0.1)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=40)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
