"""The platform as it is deployed: each replica of a service is a process of its own, all on one set of stores."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import psutil
from uuid_utils.compat import uuid7

from services.auth.accounts.commands import republish
from services.auth.app import MIGRATIONS as AUTH_MIGRATIONS
from services.auth.sessions.keys import SigningKeys, rotate
from services.auth.sessions.tokens import AccessTokens
from services.booking.app import MIGRATIONS as BOOKING_MIGRATIONS
from services.contracts.enums import Role
from services.kit.postgres.migrations import migrate
from services.standalone.databases import DatabaseUrls, create_databases
from services.standalone.kept import KeptSecrets
from services.standalone.process import HOST
from tests.support.forked import Program
from tests.support.issuer import AUDIENCE, ISSUER

_START_SECONDS = 60.0
_STOP_SECONDS = 40.0
_TOKEN_SECONDS = 900
# Linux gives outgoing connections ports from 32768 on. One of them could take the port of a server that is restarted.
_PORTS = range(20_000, 32_000)
_INSERT = """
    INSERT INTO users (id, email, password_hash, role, status, fullname, time_zone, locale, speciality, experience,
                       consultation_fee, version, created_at, updated_at)
    SELECT id, id || '@example.com', '', $2, 'ACTIVE', 'Ada Example', 'Europe/Berlin', 'en', $3, $4, $5, 1, now(), now()
    FROM unnest($1::uuid[]) AS id
"""


def free_ports(number: int) -> list[int]:
    """Found ahead, because processes have to know each other's."""
    with ExitStack() as closed:
        ports: list[int] = []
        while len(ports) < number:
            try:
                one = socket.create_server(("127.0.0.1", random.choice(_PORTS)))
            except OSError:
                continue
            ports.append(closed.enter_context(one).getsockname()[1])
        return ports


class NotStarted(Exception):
    """The message has the end of the process' log."""


class Process:
    """One server, started at once. Its output is in a file, which a later start continues."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str],
        log: Path,
        ports: Sequence[int] | None = None,
    ) -> None:
        self.name, self.log = log.stem, log
        self.port, self.internal_port = ports or free_ports(2)
        self.command = (module, *arguments)
        self.environment = dict(environment)
        self.start()

    def start(self) -> None:
        own = {"PORT": str(self.port), "INTERNAL_PORT": str(self.internal_port)}
        environment = {**os.environ, **self.environment, **own}
        self._process = Program(*self.command, environment=environment, output=self.log)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def internal_url(self) -> str:
        return f"http://127.0.0.1:{self.internal_port}"

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def cpu_seconds(self) -> float:
        used = psutil.Process(self._process.pid).cpu_times()
        return float(used.user + used.system)

    @property
    def resident_bytes(self) -> int:
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        with httpx.Client(trust_env=False) as client:
            while self.alive and time.monotonic() < deadline:
                try:
                    if client.get(f"{self.url}/api/health").status_code < 500:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(0.05)
        raise NotStarted(f"{self.name} did not start:\n{self.output[-3000:]}")

    async def ready(self) -> None:
        await asyncio.to_thread(self.wait_until_ready)

    def stop(self) -> int:
        """By SIGTERM, so that it drains; its exit code, or that of SIGKILL where it took too long."""
        self._process.terminate()
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        self._process.kill()
        return self._process.wait()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)


class Served(NamedTuple):
    """A process, with clients of its public and of its internal port."""

    process: Process
    client: httpx.AsyncClient
    internal: httpx.AsyncClient

    async def metric(self, name: str) -> float:
        lines = (await self.internal.get("/metrics")).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@asynccontextmanager
async def served(service: str, environment: Mapping[str, str]) -> AsyncIterator[Served]:
    """Ready when the block begins; it ends by SIGTERM, and has to do so cleanly."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, f"{service}.log")
        process = Process(f"services.{service}", "serve", environment=environment, log=log)
        try:
            await process.ready()
            limits = httpx.Limits(max_connections=None)
            async with (
                httpx.AsyncClient(base_url=process.url, limits=limits, timeout=15, trust_env=False) as client,
                httpx.AsyncClient(base_url=process.internal_url, timeout=15, trust_env=False) as internal,
            ):
                yield Served(process, client, internal)
            assert await asyncio.to_thread(process.stop) == 0, process.output
        finally:
            process.kill()


class Stores(NamedTuple):
    """The administrators' URLs of Redis and MongoDB, and with `kept` the services' own."""

    redis_url: str
    mongodb_url: str
    auth: DatabaseUrls
    booking: DatabaseUrls
    kept: KeptSecrets | None = None

    def redis_url_of(self, service: str) -> str:
        if self.kept is None:
            return self.redis_url
        return self.redis_url.replace(f":{self.kept['valkey']}@", f"{service}:{self.kept[f'valkey {service}']}@")

    @property
    def notification_mongodb_url(self) -> str:
        if self.kept is None:
            return self.mongodb_url
        address = urlsplit(self.mongodb_url)
        return f"mongodb://notification:{self.kept['mongodb notification']}@{HOST}:{address.port}/notification"

    @classmethod
    async def migrated(cls, *, postgres_url: str, redis_url: str, mongodb_url: str, kept: KeptSecrets) -> "Stores":
        """Databases of their own in fresh servers."""
        databases = await create_databases(postgres_url, kept)
        for name, migrations in (("auth", AUTH_MIGRATIONS), ("booking", BOOKING_MIGRATIONS)):
            urls = databases[name]
            await migrate(migrations, migration_url=urls.migration, application_url=urls.application)
        return cls(redis_url, mongodb_url, databases["auth"], databases["booking"], kept)


class Deployment:
    """Starts replicas of services, which know each other, and stops all that it started.

    The first replicas of auth and of booking are those that the others ask.
    """

    def __init__(self, folder: Path, stores: Stores, **settings: str) -> None:
        self._folder, self._stores = folder, stores
        keys = folder / "signing-keys.json"
        rotate(keys)
        self._tokens = AccessTokens(SigningKeys(keys), issuer=ISSUER, audience=AUDIENCE, seconds=_TOKEN_SECONDS)
        self._first = {name: free_ports(2) for name in ("auth", "booking")}
        (auth, auth_internal), (_, booking_internal) = self._first["auth"], self._first["booking"]
        self.environment = {
            "MONGODB_URL": stores.notification_mongodb_url,
            "AUTH_DATABASE_URL": stores.auth.application,
            "BOOKING_DATABASE_URL": stores.booking.application,
            "AUTH_TO_BOOKING_TOKEN": "a" * 32,
            "BOOKING_TO_AUTH_TOKEN": "b" * 32,
            "NOTIFICATION_TO_AUTH_TOKEN": "n" * 32,
            "AUTH_SIGNING_KEYS_FILE": str(keys),
            "AUTH_SECRET_KEY": "s" * 32,
            "ADDRESS_LIMITS": "false",
            "USER_REQUESTS_PER_MINUTE": "0",
            "PATIENT_BOOKINGS_PER_HOUR": "0",
            "AUTH_INTERNAL_URL": f"http://127.0.0.1:{auth_internal}",
            "BOOKING_INTERNAL_URL": f"http://127.0.0.1:{booking_internal}",
            "JWKS_URL": f"http://127.0.0.1:{auth}/api/auth/.well-known/jwks.json",
            **settings,
        }
        self.processes: dict[str, list[Process]] = {}

    def launch(self, service: str, *command: str, **settings: str) -> Process:
        """Starts another replica, by `command` where it is not the service's own; it may not be ready yet."""
        replicas = self.processes.setdefault(service, [])
        process = Process(
            *(command or (f"services.{service}", "serve")),
            environment=self.environment | {"REDIS_URL": self._stores.redis_url_of(service)} | settings,
            log=self._folder / f"{service}-{len(replicas)}.log",
            ports=self._first.get(service) if not replicas else None,
        )
        replicas.append(process)
        return process

    @property
    def all(self) -> list[Process]:
        return [process for replicas in self.processes.values() for process in replicas]

    @property
    def logs(self) -> str:
        return "\n".join(process.output[-3000:] for process in self.all)

    async def ready(self) -> None:
        await asyncio.gather(*(process.ready() for process in self.all))

    async def register(self, role: Role, people: Sequence[UUID]) -> None:
        """Makes accounts as rows, since passwords take long to hash; the services hear of them as usual."""
        details = ("Cardiology", 12, 80) if role is Role.DOCTOR else (None, None, None)
        connection = await asyncpg.connect(self._stores.auth.application)
        await connection.execute(_INSERT, people, role, *details)
        await connection.close()
        await republish(self._stores.auth.application)

    def token(self, user_id: UUID, role: Role) -> str:
        """Good for a quarter of an hour."""
        return self._tokens.issue(user_id, role, uuid7())

    def stop(self) -> None:
        for process in self.all:
            process.send(signal.SIGTERM)
        for process in self.all:
            process.stop()
