"""The platform under test, and what can be done to it: real processes are killed, frozen, cut off and started again."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import monotonic, time
from typing import Any, TypeVar

import asyncpg
import msgspec
import psutil
import pymongo
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import make_url
from uuid_utils.compat import uuid7

from services.contracts.enums import Role
from services.contracts.streams import APPOINTMENTS, USERS
from services.kit.streams.redis import redis_client
from services.kit.streams.signatures import SIGNATURE, signature_of
from services.standalone.kept import KeptSecrets
from services.standalone.mongod import Mongod
from services.standalone.postgres import Postgres
from services.standalone.process import Server
from services.standalone.valkey import Valkey
from tests.faults.front import Front
from tests.faults.workload import People
from tests.support.deployment import Deployment, Stores
from tests.support.process import ServiceProcess, free_ports
from tests.support.proxy import Proxy

T = TypeVar("T")
Commands = Mapping[str, tuple[str, ...]]
Settings = Mapping[str, Mapping[str, str]]

_REPLICAS = {"auth": 2, "booking": 2, "notification": 2}
_DOCTORS, _PATIENTS = 40, 200
_START_SECONDS = 60.0
_REVIVE_SECONDS = 0.1
_POLL_SECONDS = 0.2


@asynccontextmanager
async def database(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Reads jsonb as what it says."""
    connection = await asyncpg.connect(url)
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
    )
    try:
        yield connection
    finally:
        await connection.close()


class Platform:
    """Servers of its own, durable as in production, and two replicas of each service.

    A replica that dies is started again at once, as a cluster would. `commands` replaces a service's own.
    """

    def __init__(self, folder: Path, *, commands: Commands | None = None) -> None:
        self.folder = folder
        self._commands = commands or {}
        kept = KeptSecrets(folder / "secrets.json")
        self.postgres, self.redis, self.mongodb = (
            kind(folder, kept, durable=True) for kind in (Postgres, Valkey, Mongod)
        )
        self._kept = kept
        # The kernel stops a server with the thread that launched it: this one lives as long as the platform.
        self._keeper = ThreadPoolExecutor(1)
        self._resting: set[str] = set()
        self._read: dict[str, int] = {}
        self._links: dict[tuple[str, str], Proxy] = {}
        self.deaths: list[float] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Platform"]:
        async with AsyncExitStack() as exits:
            exits.callback(self._keeper.shutdown)
            for server, port in zip(self._servers, free_ports(3), strict=True):
                server.port = port
                exits.push_async_callback(self._by_keeper, _stop, server)
                await self.start(server)
            self._stores = await Stores.migrated(
                postgres_url=self.postgres.url,
                redis_url=self.redis.url,
                mongodb_url=self.mongodb.url,
                kept=self._kept,
            )
            self.deployment = Deployment(self.folder, self._stores, ENVIRONMENT="test")
            exits.push_async_callback(asyncio.to_thread, self.deployment.stop)
            for service, number in _REPLICAS.items():
                for _ in range(number):
                    self.deployment.launch(service, *self._commands.get(service, ()))
            self.front = Front(self.deployment.processes)
            exits.callback(self.front.close)
            self._links_open = await exits.enter_async_context(AsyncExitStack())
            await self._open_stores(exits)
            await self.deployment.ready()
            doctors, patients = ([uuid7() for _ in range(number)] for number in (_DOCTORS, _PATIENTS))
            await self.deployment.register(Role.DOCTOR, doctors)
            await self.deployment.register(Role.PATIENT, patients)
            self.people = People(self.deployment, doctors, patients)
            for task in (self.front.watch(), self._revive()):
                exits.callback(asyncio.create_task(task).cancel)
            if not await self.quiet(_START_SECONDS):
                raise TimeoutError("the platform does not come to rest after its start")
            yield self

    @property
    def _servers(self) -> tuple[Server, ...]:
        return self.postgres, self.redis, self.mongodb

    async def _open_stores(self, exits: AsyncExitStack) -> None:
        """Straight to the stores, for the checks: past every proxy and every service."""
        client = pymongo.AsyncMongoClient[dict[str, Any]](
            self.mongodb.url, uuidRepresentation="standard", tz_aware=True
        )
        exits.push_async_callback(client.close)
        self.documents = client["notification"]
        self.stream = redis_client(self.redis.url, connect_seconds=5, answer_seconds=5)
        exits.push_async_callback(self.stream.aclose)

    @asynccontextmanager
    async def database(self, service: str) -> AsyncIterator[asyncpg.Connection]:
        """As the superuser."""
        url = make_url(self.postgres.url).set(database=service).render_as_string(hide_password=False)
        async with database(url) as connection:
            yield connection

    async def execute(self, sql: str) -> None:
        """In booking's database."""
        async with self.database("booking") as connection:
            await connection.execute(sql)

    # Servers

    async def _by_keeper(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._keeper, work, *arguments)

    async def start(self, server: Server) -> None:
        """On the port and the data that it had."""
        await self._by_keeper(server.launch)
        deadline = monotonic() + _START_SECONDS
        while not await self._by_keeper(server.answers):
            if server.died or monotonic() > deadline:
                raise server.failure()
            await asyncio.sleep(0.02)

    async def kill(self, server: Server) -> None:
        """As a crash of the machine would: PostgreSQL's processes get no time to write anything either."""
        victims = _family(server)
        for process in victims:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        while server.pid is not None:
            await asyncio.sleep(0.01)
        if server is self.redis:
            await self.stream.connection_pool.disconnect()  # a command would still try those, of the one to come

    @asynccontextmanager
    async def frozen(self, server: Server) -> AsyncIterator[None]:
        family = _family(server)
        for process in family:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in reversed(family):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    async def empty_redis(self) -> None:
        """Another one takes its place, without data."""
        await self.kill(self.redis)
        shutil.rmtree(self.redis.folder / "appendonlydir")
        await self.start(self.redis)

    async def cut_redis_log(self, number_of_bytes: int) -> None:
        await self.kill(self.redis)
        log = max((self.redis.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
        os.truncate(log, max(0, log.stat().st_size - number_of_bytes))
        await self.start(self.redis)

    # Services

    def replicas(self, service: str) -> list[ServiceProcess]:
        return self.deployment.processes[service]

    async def _revive(self) -> None:
        while True:
            for process in self.deployment.all:
                if process.name not in self._resting and not process.alive:
                    self.deaths.append(time())
                    process.start()
            await asyncio.sleep(_REVIVE_SECONDS)

    async def restart(self, process: ServiceProcess) -> None:
        """By SIGTERM, drained and in its own time; ready again on return."""
        self._resting.add(process.name)
        try:
            if await asyncio.to_thread(process.stop) != 0:
                self.deaths.append(time())  # at a failpoint that it came to meanwhile, or for draining too long
            process.start()
        finally:
            self._resting.discard(process.name)
        await process.ready()

    async def configure(self, settings: Settings | None = None, commands: Commands | None = None) -> None:
        """Restarts the replicas for which something changes. A service that is not named has its defaults again."""
        changed = []
        for service, replicas in self.deployment.processes.items():
            environment = self.deployment.environment_of(service) | dict((settings or {}).get(service, {}))
            own = self._commands.get(service, (f"services.{service}", "serve"))
            command = (commands or {}).get(service, own)
            for process in replicas:
                if (process.environment, process.command) != (environment, command):
                    process.environment, process.command = environment, command
                    changed.append(process)
        await asyncio.gather(*map(self.restart, changed))
        for process in self.deployment.all:
            await process.ready()

    async def link(self, service: str, server: str) -> Proxy:
        """The way from a service's replicas to a server; they use it once they are configured with its `url`."""
        if (service, server) not in self._links:
            urls = {
                "postgres": self._stores.booking.application if service == "booking" else self._stores.auth.application,
                "redis": self._stores.redis_url_of(service),
                "mongodb": self._stores.notification_mongodb_url,
                "auth": self.deployment.environment["AUTH_INTERNAL_URL"],
                "keys": self.deployment.environment["JWKS_URL"],
            }
            self._links[service, server] = await self._links_open.enter_async_context(Proxy.to(urls[server]))
        return self._links[service, server]

    # Streams

    async def add_to_stream(self, stream: str, fields: Mapping[str, str]) -> str:
        """Past the relay, under the number that it would give next, and now will not: the new entry's id."""
        if stream == USERS.name:
            fields = {**fields, SIGNATURE: signature_of(stream, fields, self.deployment.signing_keys.sign)}
        while True:
            top = int((await self.stream.xinfo_stream(stream))["last-generated-id"].partition(b"-")[0])
            if top == 0:  # an emptied Redis, where what has a low number is taken for read already, and trimmed
                async with self.database("booking" if stream == APPOINTMENTS.name else "auth") as connection:
                    top = await connection.fetchval("SELECT coalesce(max(acked_through), 0) FROM relay_state")
            with suppress(ResponseError):  # the relay was quicker, and this id is behind by now
                added: Any = await self.stream.xadd(stream, dict[Any, Any](fields), id=f"{top + 1}-0")
                return str(added.decode())

    # Coming to rest

    async def quiet(self, within_seconds: float) -> bool:
        """Whether everything is told and read in time."""
        deadline = monotonic() + within_seconds
        while not await self._is_quiet():
            if monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def _is_quiet(self) -> bool:
        try:
            for service in ("booking", "auth"):
                async with self.database(service) as connection:
                    if await connection.fetchval("SELECT EXISTS (SELECT FROM outbox WHERE stream_seq IS NULL)"):
                        return False
                    if service == "booking" and await connection.fetchval("SELECT count(*) FROM users") == 0:
                        return False
                    numbered = await connection.fetchval("SELECT coalesce(max(stream_seq), 0) FROM outbox")
                    stream = APPOINTMENTS if service == "booking" else USERS
                    top = (await self.stream.xinfo_stream(stream.name))["last-generated-id"]
                    acked = await connection.fetchval(
                        "SELECT acked_through FROM relay_state WHERE stream = $1", stream.name
                    )
                    # An emptied Redis that still waits to be filled again has nothing unread either.
                    if max(int(top.partition(b"-")[0]), acked or 0) < numbered:
                        return False
                    groups = await self.stream.xinfo_groups(stream.name)
                    if any(group["pending"] or group["last-delivered-id"] != top for group in groups):
                        return False
        except (OSError, RedisError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    def new_logs(self) -> dict[str, str]:
        """What the services have logged since this was last asked for."""
        found = {}
        for process in self.deployment.all:
            with process.log.open("rb") as log:
                log.seek(self._read.get(process.name, 0))
                text = log.read()
            self._read[process.name] = self._read.get(process.name, 0) + len(text)
            found[process.name] = text.decode(errors="replace")
        return found


def _family(server: Server) -> list[psutil.Process]:
    if server.pid is None:
        return []
    parent = psutil.Process(server.pid)
    return [parent, *parent.children(recursive=True)]


def _stop(server: Server) -> None:
    server.request_stop()
    server.finish_stop(monotonic() + 15)
