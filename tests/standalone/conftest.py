"""One platform for all tests that only use it, and embedded servers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from services.standalone.servers import Servers
from tests.standalone.platform import ORIGIN, Platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    platform = Platform(tmp_path_factory.mktemp("platform") / "data", CORS_ORIGINS=ORIGIN).started()
    yield platform
    platform.stop()


@pytest.fixture(scope="session")
def client(platform: Platform) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform.url, timeout=10) as client:
        yield client


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Servers]]:
    """Start servers, by default always in the same new folder, and stop them after the test."""
    with ExitStack() as running:

        def start(directory: Path = tmp_path / "data", *, durable: bool = False, **chosen: bool) -> Servers:
            return running.enter_context(Servers(directory, durable=durable, **chosen))

        yield start


@pytest.fixture(scope="module")
def all_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """All three servers, for tests that leave them unchanged."""
    with Servers(tmp_path_factory.mktemp("all") / "data", durable=False) as servers:
        yield servers
