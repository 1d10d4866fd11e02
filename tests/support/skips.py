"""Fail a run with a skip that is not listed: a test that silently stops running proves nothing."""

import re

import pytest


class ListedSkips:
    """Compare the skips of a run, in all xdist workers, with the reasons in `allowed_skips`."""

    def __init__(self, allowed: list[str]) -> None:
        self._allowed = [re.compile(reason) for reason in allowed]
        self._listed: list[str] = []
        self._unlisted: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        listed = any(allowed.search(reason) for allowed in self._allowed)
        (self._listed if listed else self._unlisted).append(f"{report.nodeid}: {reason}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._unlisted and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"skips: {len(self._listed)} listed, {len(self._unlisted)} not listed")
        for skip in self._unlisted:
            terminalreporter.write_line(f"not in allowed_skips: {skip}", red=True)
