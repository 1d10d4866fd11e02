"""One embedded server as a child process: launch it on a free loopback port, watch it, stop it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil

from services.standalone.kept import KeptSecrets

HOST = "127.0.0.1"
_LAUNCHER = Path(__file__).with_name("launch.py")
_OPENSSL = "apt-get install libssl3 (dnf install openssl-libs; zypper install libopenssl3)"
_PACKAGES = {
    "libcurl.so.4": "apt-get install libcurl4 (dnf install libcurl; zypper install libcurl4)",
    "libssl.so.3": _OPENSSL,
    "libcrypto.so.3": _OPENSSL,
}


class ServerError(Exception):
    """An embedded server cannot run; the message is for the person at the terminal."""


class Server(ABC):
    """A server that works in its data folder. A later run recognises processes left behind by that folder."""

    name: ClassVar[str]
    program: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, directory: Path, kept: KeptSecrets, *, durable: bool) -> None:
        self.folder = directory / self.name
        self.port = 0
        self._log = directory / f"{self.name}.log"
        self._kept = kept
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The administrator's URL, with the password."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the server serves clients now."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    def _prepare(self) -> None:
        """Prepare the data folder for the program."""
        self.folder.mkdir(mode=0o700, exist_ok=True)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def died(self) -> bool:
        """Whether the process ended without a request to stop."""
        return self._process is not None and self._process.poll() is not None

    def launch(self) -> None:
        """Start the process on its previous port, or on a free one, without waiting until it answers."""
        end_processes(self.program, self.folder, self.stop_signal)
        self._prepare()
        self.port = self.port or free_port()
        if self._log.exists():
            self._log.replace(self._log.with_suffix(".log.old"))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._launched(self._command(), self.stop_signal),
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal reaches the whole foreground group, but the services must drain first.
                start_new_session=True,
            )

    def move_if_port_was_taken(self) -> bool:
        """Forget the port if another process took it between the choice and the bind, and tell whether it did."""
        with socket.socket() as probe:
            try:
                probe.bind((HOST, self.port))
            except OSError:
                self.port = 0
        return self.port == 0

    def request_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
            self._process.send_signal(signal.SIGCONT)

    def finish_stop(self, deadline: float) -> None:
        """Wait until `deadline` (by `time.monotonic`) for a requested stop, then kill the process."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        end_processes(self.program, self.folder, self.stop_signal)

    def failure(self) -> ServerError:
        """Explain from the exit code and the log why the server does not run."""
        text = self._log.read_text(errors="replace")
        if missing := re.search(r"error while loading shared libraries: (\S+?):", text):
            fix = _PACKAGES.get(missing[1], "install the package of your system that contains it")
            return ServerError(f"{self.program} needs {missing[1]}, which this machine lacks. Fix: {fix}")
        code = self._process.poll() if self._process is not None else None
        if code == -signal.SIGILL:
            return ServerError(f"{self.program} uses instructions that this processor lacks (MongoDB needs AVX).")
        ended = "does not answer" if code is None else f"ended with {code}"
        return ServerError(f"{self.program} {ended}; the end of {self._log}:\n{text[-2000:]}")

    def _launched(self, command: list[str], death_signal: signal.Signals) -> list[str]:
        user, group = self._identity()
        interpreter = [sys.executable, "-I", "-S", str(_LAUNCHER)]
        return [*interpreter, *map(str, (os.getpid(), int(death_signal), user, group)), *command]

    def _identity(self) -> tuple[int, int]:
        """The user and the group to run as; -1 stands for the current ones."""
        return -1, -1


def environment() -> dict[str, str]:
    """Return the environment for a server: nothing in it configures the server, and no secret is in it."""
    passed = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"} | {k: os.environ[k] for k in passed if k in os.environ}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def end_processes(program: str, folder: Path, stop_signal: signal.Signals, seconds: float = 15.0) -> None:
    """End the processes of `program`, and no others, that an earlier run left working in this very folder."""
    alive = [process for process in psutil.process_iter(["name"]) if _works_in(process, program, folder)]
    for number, wait_seconds in ((stop_signal, seconds), (signal.SIGKILL, 5.0)):
        pids = {process.pid for process in alive}
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                # PostgreSQL stops its own children, in the order that keeps the data clean.
                if number == signal.SIGKILL or process.ppid() not in pids:
                    process.send_signal(number)
                    process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + wait_seconds
        while (alive := [one for one in alive if not _has_ended(one)]) and time.monotonic() < deadline:
            time.sleep(0.02)
    if alive:
        raise ServerError(f"{program} (process {alive[0].pid}) still works in {folder} and cannot be ended.")


def _has_ended(process: psutil.Process) -> bool:
    """Also recognise a zombie, which stays in containers whose first process does not reap orphans."""
    try:
        return not process.is_running() or (process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1)
    except psutil.NoSuchProcess:
        return True


def _works_in(process: psutil.Process, program: str, folder: Path) -> bool:
    try:
        if process.name() != program:
            return False
        # Compare inodes where the system has /proc: in a container the same path may be another folder.
        seen = Path(f"/proc/{process.pid}/cwd")
        return (seen if seen.exists() else Path(process.cwd())).samefile(folder)
    except (psutil.Error, OSError):
        return False
