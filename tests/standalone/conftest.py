"""One platform for all tests that only use it, and embedded servers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from services.notification.indexes import migrate as migrate_notification
from services.standalone.servers import Servers
from tests.standalone.platform import ORIGIN, Platform
from tests.support.databases import CloneDatabase, ServerUrls
from tests.support.deployment import Deployment, Stores


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


@pytest.fixture
async def deployment(
    servers: ServerUrls, clone_database: CloneDatabase, worker_id: str, tmp_path: Path
) -> AsyncIterator[Deployment]:
    number = 56 + (0 if worker_id == "master" else int(worker_id.removeprefix("gw")))
    suffix = uuid4().hex[:12]
    auth, booking = [await clone_database(name, f"{name}_{suffix}") for name in ("auth", "booking")]
    stores = Stores(
        redis_url=f"{servers.redis.removesuffix('/0')}/{number}",
        mongodb_url=servers.mongodb.replace("/?", f"/replicas_{suffix}?"),
        auth=auth,
        booking=booking,
    )
    await asyncio.to_thread(migrate_notification, stores.mongodb_url)
    deployment = Deployment(tmp_path, stores, DOCTOR_APPROVAL="automatic")
    yield deployment
    for process in deployment.all:
        process.kill()
