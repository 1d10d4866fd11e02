"""Real servers for the whole run, and for every worker its own databases in them."""

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
import pytest

from services.kit import log
from services.kit.postgres.migrations import migrate
from services.standalone.databases import DatabaseUrls, create_database, database_urls
from services.standalone.kept import KeptSecrets
from services.standalone.servers import Servers
from tests.support.canary import LogCanary
from tests.support.scheduling import Scheduling
from tests.support.skips import ListedSkips

_HANDED_OVER = "BOOKING_PLATFORM_TEST_SERVERS"
TEMPLATES_LOCK = 1
_SERVICES = Path(__file__).parents[1] / "services"

_SUITES = ("auth", "booking", "faults", "kit", "notification")

_servers = pytest.StashKey[Servers]()
_directory = pytest.StashKey[Path]()

CloneDatabase = Callable[[str, str], Awaitable[DatabaseUrls]]


@dataclass(frozen=True)
class ServerUrls:
    """The run's servers, which all its workers share; `kept` is the file of their passwords."""

    postgres: str
    redis: str
    mongodb: str
    kept: str


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("allowed_skips", "reasons (regular expressions) for which a test may be skipped", "linelist")


def pytest_configure(config: pytest.Config) -> None:
    log.configure("INFO", readable=False)  # of services in this process, as when deployed
    config.pluginmanager.register(Scheduling(config.rootpath))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(ListedSkips(config.getini("allowed_skips")))


def pytest_collection_finish() -> None:
    gc.freeze()  # thousands of tests, which no collection need look through again: it is a twentieth of a run's time


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    # Before xdist starts its workers: they inherit the environment, and with it the addresses.
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
    """The Redis of one of _SUITES in this worker, which it may flush.

    Not the worker's alone: the services of one suite's fixtures still run while the next suite flushes and reads.
    """
    worker = 0 if worker_id == "master" else int(worker_id.removeprefix("gw")) + 1

    def url(suite: str) -> str:
        return f"{servers.redis.removesuffix('/0')}/{worker * len(_SUITES) + _SUITES.index(suite)}"

    return url


@pytest.fixture(scope="session")
def mongodb_url(servers: ServerUrls, worker_id: str) -> str:
    return servers.mongodb.replace("/?", f"/notification_{worker_id}?")


@pytest.fixture(scope="session")
def clone_database(servers: ServerUrls) -> CloneDatabase:
    """Makes a database of the given name with the schema of the given service."""

    async def clone(service: str, database: str) -> DatabaseUrls:
        connection = await asyncpg.connect(servers.postgres)
        try:
            # One worker at a time: the first one migrates the template, and nobody may be connected while it is copied.
            await connection.execute("SELECT pg_advisory_lock($1)", TEMPLATES_LOCK)
            kept = KeptSecrets(Path(servers.kept))
            template = await _template(connection, servers, kept, service)
            await connection.execute(f"CREATE DATABASE {database} TEMPLATE {template} OWNER {service}_owner")
        finally:
            await connection.close()
        return database_urls(servers.postgres, kept, service, database)

    return clone


async def _template(connection: asyncpg.Connection, servers: ServerUrls, kept: KeptSecrets, service: str) -> str:
    template, draft = f"{service}_template", f"{service}_draft"
    if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", template):
        await create_database(connection, kept, service, draft)
        urls = database_urls(servers.postgres, kept, service, draft)
        await migrate(
            _SERVICES / service / "migrations", migration_url=urls.migration, application_url=urls.application
        )
        # Renamed when complete: where a migration failed, the next worker fails in the same words.
        await connection.execute(f"ALTER DATABASE {draft} RENAME TO {template}")
    return template


@pytest.fixture(scope="session")
async def auth_database(clone_database: CloneDatabase, worker_id: str) -> DatabaseUrls:
    """auth's database of this worker, migrated."""
    return await clone_database("auth", f"auth_{worker_id}")


@pytest.fixture(scope="session")
async def booking_database(clone_database: CloneDatabase, worker_id: str) -> DatabaseUrls:
    """booking's database of this worker, migrated."""
    return await clone_database("booking", f"booking_{worker_id}")
