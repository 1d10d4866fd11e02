"""Marked names and texts for the users of every suite, and a search for the mark in all logs of a run."""

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

MARK = "kestrel7f3a"  # no path, id or message of the platform contains it
PASSWORD = f"{MARK} battery staple"
NOTE = f"{MARK} would like a seat by the window"
_SECRETS = re.compile(rf"{MARK}|eyJ[\w-]+\.[\w-]+\.", re.IGNORECASE)  # the mark or an access token


def new_email() -> str:
    return f"{uuid4().hex[:12]}@{MARK}.test"


def called(first: str) -> str:
    return f"{first} {MARK.title()}"


class LogCanary:
    """Fail a run in which the mark or an access token was logged.

    It searches what tests and the services inside them print, and every `.log` file that a process of the run wrote.
    """

    def __init__(self, servers: Path) -> None:
        self._servers = servers
        self._searched: list[int] = []
        self._found: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for title, text in report.sections:
            self._search(f"{report.nodeid}: {title}", text)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        factory: Any = session.config._tmp_path_factory  # type: ignore[attr-defined] # xdist's controller has no fixtures
        for folder in (factory.getbasetemp(), self._servers):
            for file in folder.rglob("*.log"):
                self._search(str(file), file.read_text(errors="replace"))
        if self._found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _search(self, where: str, text: str) -> None:
        self._searched.append(len(text))
        if found := _SECRETS.search(text):
            line = text[text.rfind("\n", 0, found.start()) + 1 :].partition("\n")[0]
            self._found.append(f"{where}: {line[:1000]}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(
            f"logs: {len(self._searched)} searched, {sum(self._searched):,} characters, {len(self._found)} with secrets"
        )
        for one in self._found:
            terminalreporter.write_line(one, red=True)
