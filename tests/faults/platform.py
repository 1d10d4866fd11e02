"""The platform under test: real servers, and real replicas that are killed, cut off, reconfigured and restarted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import time

from uuid_utils.compat import uuid7

from services.contracts.enums import Role
from services.contracts.streams import USERS, Stream
from services.kit.streams.signatures import SIGNATURE, signature_of
from tests.faults.balancer import Balancer
from tests.faults.people import People
from tests.faults.servers import Servers
from tests.support.deployment import Deployment, Stores
from tests.support.process import ServiceProcess
from tests.support.proxy import Proxy

Commands = Mapping[str, tuple[str, ...]]
Settings = Mapping[str, Mapping[str, str]]

_REPLICAS = {"auth": 2, "booking": 2, "notification": 2}
_DOCTORS, _PATIENTS = 40, 200
_START_SECONDS = 60.0
_REVIVE_SECONDS = 0.1


class Platform:
    """Servers of its own and two replicas of each service, behind a load balancer.

    A replica that dies is started again at once, as a cluster would. `commands` replaces the services' own commands.
    `prepare` changes the migrated servers before the services start. `deaths` are the times at which replicas died.
    """

    def __init__(self, folder: Path, *, commands: Commands | None = None, prepare: "Prepare | None" = None) -> None:
        self.folder = folder
        self._commands, self._prepare = commands or {}, prepare
        self.servers = Servers(folder)
        self._restarting: set[str] = set()
        self._log_positions: dict[str, int] = {}
        self._links: dict[tuple[str, str], Proxy] = {}
        self.deaths: list[float] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Platform"]:
        async with AsyncExitStack() as exits:
            servers = await exits.enter_async_context(self.servers.running())
            self._stores = await Stores.migrated(
                postgres_url=servers.postgres.url,
                redis_url=servers.redis.url,
                mongodb_url=servers.mongodb.url,
                kept=servers.secrets,
            )
            if self._prepare is not None:
                await self._prepare(self)
            self.documents = servers.mongodb_client["notification"]
            self.deployment = Deployment(self.folder, self._stores, ENVIRONMENT="test")
            exits.push_async_callback(asyncio.to_thread, self.deployment.stop)
            for service, number in _REPLICAS.items():
                for _ in range(number):
                    self.deployment.launch(service, *self._commands.get(service, ()))
            self.balancer = Balancer(self.deployment.processes)
            exits.callback(self.balancer.close)
            self._links_open = await exits.enter_async_context(AsyncExitStack())
            await self.deployment.ready()
            doctors, patients = ([uuid7() for _ in range(number)] for number in (_DOCTORS, _PATIENTS))
            await self.deployment.register(Role.DOCTOR, doctors)
            await self.deployment.register(Role.PATIENT, patients)
            self.people = People(self.deployment, doctors, patients)
            for task in (self.balancer.watch(), self._revive()):
                exits.callback(asyncio.create_task(task).cancel)
            if not await servers.quiet(_START_SECONDS):
                raise TimeoutError("events are still unread a minute after the start")
            yield self

    async def execute(self, sql: str) -> None:
        """Run SQL in booking's database, as the superuser."""
        async with self.servers.database("booking") as connection:
            await connection.execute(sql)

    def replicas(self, service: str) -> list[ServiceProcess]:
        return self.deployment.processes[service]

    async def _revive(self) -> None:
        while True:
            for process in self.deployment.all:
                if process.name not in self._restarting and not process.alive:
                    self.deaths.append(time())
                    process.start()
            await asyncio.sleep(_REVIVE_SECONDS)

    async def restart(self, process: ServiceProcess) -> None:
        """Stop a replica by SIGTERM, let it drain, start it again and wait until it is ready."""
        self._restarting.add(process.name)
        try:
            if await asyncio.to_thread(process.stop) != 0:
                self.deaths.append(time())  # a failpoint killed it meanwhile, or it took too long to drain
            process.start()
        finally:
            self._restarting.discard(process.name)
        await process.ready()

    async def configure(self, settings: Settings | None = None, commands: Commands | None = None) -> None:
        """Restart the replicas whose settings or command change. A service that is not named gets its defaults."""
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
        """Return the proxy between a service and a server; the replicas use it once they are configured with its URL.

        Beside `postgres`, `redis` and `mongodb`, a server may be `auth` (the internal port) or `keys` (the JWKS).
        """
        if (service, server) not in self._links:
            stores, environment = self._stores, self.deployment.environment
            urls = {
                "postgres": stores.booking.application if service == "booking" else stores.auth.application,
                "redis": stores.redis_url_of(service),
                "mongodb": stores.notification_mongodb_url,
                "auth": environment["AUTH_INTERNAL_URL"],
                "keys": environment["JWKS_URL"],
            }
            self._links[service, server] = await self._links_open.enter_async_context(Proxy.to(urls[server]))
        return self._links[service, server]

    async def append(self, stream: Stream, fields: Mapping[str, str]) -> str:
        """Append an entry to a stream past its relay, signed if the writer signs its entries, and return its id."""
        if stream is USERS:
            fields = {**fields, SIGNATURE: signature_of(stream.name, fields, self.deployment.signing_keys.sign)}
        return await self.servers.append(stream, fields)

    def new_logs(self) -> dict[str, str]:
        """Return what each replica has logged since the last call, by its name."""
        found = {}
        for process in self.deployment.all:
            position = self._log_positions.get(process.name, 0)
            with process.log.open("rb") as log:
                log.seek(position)
                text = log.read()
            self._log_positions[process.name] = position + len(text)
            found[process.name] = text.decode(errors="replace")
        return found


Prepare = Callable[[Platform], Awaitable[None]]
