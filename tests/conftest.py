"""Real servers for the whole run, with databases of its own for every xdist worker."""

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from services.kit import log
from services.notification.indexes import migrate as migrate_notification
from services.standalone.databases import DatabaseUrls
from services.standalone.servers import Servers
from tests.support.canary import LogCanary
from tests.support.databases import CloneDatabase, ServerUrls, clone
from tests.support.scheduling import Scheduling
from tests.support.skips import ListedSkips

_HANDED_OVER = "BOOKING_PLATFORM_TEST_SERVERS"

_SUITES = ("auth", "booking", "faults", "kit", "notification")

_servers = pytest.StashKey[Servers]()
_directory = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("allowed_skips", "reasons (regular expressions) for which a test may be skipped", "linelist")


def pytest_configure(config: pytest.Config) -> None:
    log.configure("INFO", readable=False)  # services in this process log as when deployed
    config.pluginmanager.register(Scheduling(config.rootpath))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(ListedSkips(config.getini("allowed_skips")))


def pytest_collection_finish() -> None:
    gc.freeze()  # later collections need not traverse thousands of tests, which takes 5 % of a run's time


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    # Before xdist starts its workers, because they inherit the addresses with the environment.
    config = session.config
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    config.stash[_directory] = directory = Path(tempfile.mkdtemp(prefix="booking-platform-tests-"))
    config.pluginmanager.register(LogCanary(directory))
    config.stash[_servers] = servers = Servers(directory, durable=False)
    servers.start()
    kept = str(directory / "secrets.json")
    urls = ServerUrls(servers.postgres_url, servers.redis_url, servers.mongodb_url, kept)
    os.environ[_HANDED_OVER] = json.dumps(asdict(urls))


def pytest_unconfigure(config: pytest.Config) -> None:
    if servers := config.stash.get(_servers, None):
        servers.stop()
    if directory := config.stash.get(_directory, None):
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def servers() -> ServerUrls:
    return ServerUrls(**json.loads(os.environ[_HANDED_OVER]))


@pytest.fixture(scope="session")
def redis_of(servers: ServerUrls, worker_id: str) -> Callable[[str], str]:
    """Return the URL of the Redis database that one of `_SUITES` may flush in this worker.

    A database for each suite, because services of one suite's fixtures still run while the next suite flushes its own.
    """
    worker = 0 if worker_id == "master" else int(worker_id.removeprefix("gw")) + 1

    def url(suite: str) -> str:
        return f"{servers.redis.removesuffix('/0')}/{worker * len(_SUITES) + _SUITES.index(suite)}"

    return url


@pytest.fixture(scope="session")
def mongodb_url(servers: ServerUrls, worker_id: str) -> str:
    """This worker's migrated database of notification."""
    url = servers.mongodb.replace("/?", f"/notification_{worker_id}?")
    migrate_notification(url)
    return url


@pytest.fixture(scope="session")
def clone_database(servers: ServerUrls) -> CloneDatabase:
    """Copy a service's migrated template: `await clone_database(service, name_of_the_copy)`."""
    return partial(clone, servers)


@pytest.fixture(scope="session")
async def auth_database(clone_database: CloneDatabase, worker_id: str) -> DatabaseUrls:
    """This worker's migrated database of auth."""
    return await clone_database("auth", f"auth_{worker_id}")


@pytest.fixture(scope="session")
async def booking_database(clone_database: CloneDatabase, worker_id: str) -> DatabaseUrls:
    """This worker's migrated database of booking."""
    return await clone_database("booking", f"booking_{worker_id}")
