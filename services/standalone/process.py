"""One embedded server as a child process: launched on a free loopback port, watched, stopped."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import psutil

from services.standalone.kept import KeptSecrets

HOST = "127.0.0.1"
_LAUNCHER = Path(__file__).with_name("launch.py")
_PACKAGES = {
    "libcurl.so.4": "apt-get install libcurl4 (dnf install libcurl; zypper install libcurl4)",
    "libssl.so.3": "apt-get install libssl3 (dnf install openssl-libs; zypper install libopenssl3)",
    "libcrypto.so.3": "apt-get install libssl3 (dnf install openssl-libs; zypper install libopenssl3)",
}


class ServerError(Exception):
    """An embedded server cannot be had; the message is for the person at the terminal."""


class Server(ABC):
    """A server whose working directory is its data folder: by that a later run recognises one that was left over."""

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
        """Where a client connects, password included."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether a client would be served now."""

    @abstractmethod
    def _prepare(self) -> None:
        """Makes the data folder what the program expects."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def died(self) -> bool:
        """Whether it ended without having been stopped."""
        return self._process is not None and self._process.poll() is not None

    def launch(self) -> None:
        """Starts it on the port it had before, or on a free one, without waiting until it answers."""
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
                # Ctrl-C in a terminal reaches the whole foreground group, but the applications have to drain first.
                start_new_session=True,
            )

    def move_if_port_was_taken(self) -> bool:
        """A port that was free when chosen may be somebody's by the time the server binds it: forgets such a port."""
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
        """Waits for a requested stop until the deadline (of `time.monotonic`), then ends it by force."""
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
        """Why it died, as far as its log tells."""
        text = self._log.read_text(errors="replace")
        if missing := re.search(r"error while loading shared libraries: (\S+?):", text):
            library = missing[1]
            fix = _PACKAGES.get(library, "install the package of your system that contains it")
            return ServerError(f"{self.program} needs {library}, which this machine lacks. Fix: {fix}")
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
        return -1, -1


def environment() -> dict[str, str]:
    """What a server may see of this process's environment: nothing that configures it, and no secret."""
    passed = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"} | {k: os.environ[k] for k in passed if k in os.environ}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def end_processes(program: str, folder: Path, stop_signal: signal.Signals, seconds: float = 15.0) -> None:
    """Ends what an earlier run left behind: processes of this program, and no others, that work in this very folder."""
    found = [process for process in psutil.process_iter(["name"]) if _is(process, program, folder)]
    if not found:
        return
    pids = {process.pid for process in found}
    for process in found:
        # Postgres passes a stop on to its children in the order that keeps the data clean.
        if _parent(process) not in pids:
            _send(process, stop_signal)
            _send(process, signal.SIGCONT)
    alive = _alive_after(seconds, found)
    for process in alive:
        _send(process, signal.SIGKILL)
    if stuck := _alive_after(5.0, alive):
        raise ServerError(f"{program} (process {stuck[0].pid}) still works in {folder} and cannot be ended.")


def _alive_after(seconds: float, processes: list[psutil.Process]) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while (alive := [one for one in processes if not _has_ended(one)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or only its entry is left because nobody collects orphans, as in many a container."""
    try:
        return not process.is_running() or (process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1)
    except psutil.NoSuchProcess:
        return True


def _is(process: psutil.Process, program: str, folder: Path) -> bool:
    try:
        if process.name() != program:
            return False
        # By inode where the system allows: the same path may mean another folder to a process in a container.
        seen = Path(f"/proc/{process.pid}/cwd")
        return (seen if seen.exists() else Path(process.cwd())).samefile(folder)
    except (psutil.Error, OSError):
        return False


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
