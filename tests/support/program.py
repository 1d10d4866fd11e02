"""Python programs as processes, forked from a server that has already imported everything.

Such a start costs 0.1 s of CPU instead of 2 s, and one run of the tests makes about a hundred.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
# The fork server imports these once. They must start no thread, open no connection and draw no random number.
_context.set_forkserver_preload(["services.standalone.cli"])


class Program:
    """Start `python -m module arguments` and append what it prints to `output`, or its stderr to `errors`.

    The methods are those of `subprocess.Popen`. Only the test's signals reach the process, not those of the terminal.
    """

    def __init__(
        self, module: str, *arguments: str, environment: Mapping[str, str], output: Path, errors: Path | None = None
    ) -> None:
        files = (str(output), str(errors or output))
        self._process = _context.Process(target=_run, args=(module, arguments, dict(environment), files), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(str(self._process.name), timeout or 0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def completed(module: str, *arguments: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Do what `subprocess.run` does with captured output."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        code = Program(module, *arguments, environment=environment, output=output, errors=errors).wait()
        return subprocess.CompletedProcess([module, *arguments], code, output.read_text(), errors.read_text())


def _run(module: str, arguments: tuple[str, ...], environment: dict[str, str], files: tuple[str, str]) -> None:
    for number, path in enumerate(files, start=1):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
