"""The order of the test files, and which of them share one xdist worker."""

from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

# These files use the same platform, whose start costs 5 s of CPU. In one worker they need only one.
_ON_ONE_PLATFORM = {
    f"tests/standalone/{name}.py"
    for name in (
        "test_contract",
        "test_browser",
        "test_who_may_do_what",
        "test_canary",
        "test_generated_client",
        "test_integrating",
        "test_bad_tokens",
        "test_revocation",
    )
}
# Next come the files that take longest, so that no worker is left alone with one of them at the end. Some mostly wait,
# so that they run well side by side.
_LONG = (
    "tests/notification/delivery/email/test_refusals.py",
    "tests/notification/delivery/email/test_sending.py",
    "tests/standalone/test_backup.py",
    "tests/notification/live/test_open_streams.py",
    "tests/notification/live/test_stream.py",
    "tests/standalone/test_platform.py",
    "tests/notification/live/test_stream_outages.py",
    "tests/standalone/test_server_failures.py",
    "tests/standalone/test_servers.py",
    "tests/notification/test_outages.py",
    "tests/standalone/test_email.py",
    "tests/kit/streams/test_consumer.py",
    "tests/kit/streams/test_membership.py",
    "tests/standalone/test_replicas.py",
    "tests/booking/time/test_concurrency.py",
)


class ByFile(LoadFileScheduling):  # type: ignore[misc]  # xdist has no type hints
    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "one platform" if file in _ON_ONE_PLATFORM else file


class Scheduling:
    def __init__(self, root: Path) -> None:
        self._root = root

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        def order(item: pytest.Item) -> int:
            file = item.path.relative_to(self._root).as_posix()
            return -1 if file in _ON_ONE_PLATFORM else _LONG.index(file) if file in _LONG else len(_LONG)

        items.sort(key=order)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: object) -> ByFile:
        return ByFile(config, log)
