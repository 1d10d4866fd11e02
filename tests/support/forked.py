"""Programs as processes of their own, forked from one that has done their imports.

A start costs a tenth of a second of the processor's time and not two, and a run of the tests makes about a hundred.
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
# What is imported there once. It must have neither threads nor connections then, nor random numbers already made.
_context.set_forkserver_preload(["services.standalone.cli"])


class Program:
    """`python -m module arguments`, started at once. What it prints is appended to the file, or to the two.

    Its methods are those of `subprocess.Popen`; nobody's signal but the test's reaches it.
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

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def completed(module: str, *arguments: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """As `subprocess.run` with captured output."""
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
