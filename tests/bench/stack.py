"""The platform as it is deployed, on one machine: durable servers, a process for each service, people who use it."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import NamedTuple
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
from services.kit.migrations import migrate
from services.standalone.databases import create_databases
from services.standalone.servers import Servers
from tests.issuer import AUDIENCE, ISSUER

_ROOT = Path(__file__).parents[2]
_SERVICES = ("auth", "booking", "notification")
_WAIT_SECONDS = 60.0
_STOP_SECONDS = 25.0
_PEOPLE = 200  # of either kind: more than there are connections, so that nobody is in two requests at a time
_INSERT = """
    INSERT INTO users (id, email, password_hash, role, status, fullname, time_zone, locale, speciality, experience,
                       consultation_fee, version, created_at, updated_at)
    SELECT id, id || '@example.com', '', $2, 'ACTIVE', 'Ada Example', 'Europe/Berlin', 'en', $3, $4, $5, 1, now(), now()
    FROM unnest($1::uuid[]) AS id
"""


class BenchFailed(Exception):
    """The message is for the person who measures."""


class Person(NamedTuple):
    id: UUID
    token: str


class Process:
    """One server; its output is in a file."""

    def __init__(self, module: str, *arguments: str, environment: dict[str, str], log: Path) -> None:
        self.port = int(environment["PORT"])
        self._log = log
        command = [sys.executable, "-m", module, *arguments]
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=output, stderr=output)

    @property
    def cpu_seconds(self) -> float:
        used = psutil.Process(self._process.pid).cpu_times()
        return float(used.user + used.system)

    async def ready(self) -> None:
        deadline = monotonic() + _WAIT_SECONDS
        async with httpx.AsyncClient(trust_env=False) as client:
            while self._process.poll() is None and monotonic() < deadline:
                try:
                    if (await client.get(f"http://127.0.0.1:{self.port}/api/health")).status_code < 500:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.1)
        raise BenchFailed(f"{self._log.stem} did not start:\n{self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Stack(NamedTuple):
    """`processes` are those of the services, by name, and `bare`."""

    processes: dict[str, Process]
    mongodb_url: str
    booking_url: str
    doctors: list[UUID]
    patients: list[Person]

    async def settled(self) -> None:
        """Returns when all events are in the stream, so that no measurement pays for what was before it."""
        await self.until("SELECT NOT EXISTS (SELECT FROM outbox WHERE stream_seq IS NULL)")

    async def until(self, condition: str) -> None:
        connection = await asyncpg.connect(self.booking_url)
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                while not await connection.fetchval(condition):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise BenchFailed(f"booking does not come to {condition}") from None
        finally:
            await connection.close()


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Stack]:
    """`folder` gets the data and the logs."""
    with ExitStack() as exits:
        servers = exits.enter_context(Servers(folder / "data"))
        databases = await create_databases(servers.postgres_url, servers.kept)
        for name, migrations in (("auth", AUTH_MIGRATIONS), ("booking", BOOKING_MIGRATIONS)):
            urls = databases[name]
            await migrate(migrations, migration_url=urls.migration, application_url=urls.application)
        rotate(folder / "signing-keys.json")
        bare, *ports = _free_ports(1 + 2 * len(_SERVICES))
        public, internal = (dict(zip(_SERVICES, some, strict=True)) for some in (ports[::2], ports[1::2]))
        environment = {
            "REDIS_URL": servers.redis_url,
            "MONGODB_URL": servers.mongodb_url,
            "AUTH_DATABASE_URL": databases["auth"].application,
            "BOOKING_DATABASE_URL": databases["booking"].application,
            "INTERNAL_TOKEN": servers.kept["internal token"],
            "AUTH_SIGNING_KEYS_FILE": str(folder / "signing-keys.json"),
            "AUTH_SECRET_KEY": servers.kept["auth secret key"],
            "ADDRESS_LIMITS": "false",
            "AUTH_INTERNAL_URL": f"http://127.0.0.1:{internal['auth']}",
            "BOOKING_INTERNAL_URL": f"http://127.0.0.1:{internal['booking']}",
            "JWKS_URL": f"http://127.0.0.1:{public['auth']}/api/auth/.well-known/jwks.json",
        }
        commands = {name: (f"services.{name}", "serve") for name in _SERVICES} | {"bare": ("tests.bench.bare",)}
        processes = {}
        for name, command in commands.items():
            own = {"PORT": str(public.get(name, bare)), "INTERNAL_PORT": str(internal.get(name))}
            processes[name] = Process(*command, environment=environment | own, log=folder / f"{name}.log")
            exits.callback(processes[name].stop)
        doctors, patients = [[uuid7() for _ in range(_PEOPLE)] for _ in range(2)]
        await _register(databases["auth"].application, doctors, patients)
        keys = SigningKeys(folder / "signing-keys.json")
        tokens = AccessTokens(keys, issuer=ISSUER, audience=AUDIENCE, seconds=900)
        people = [Person(id, tokens.issue(id, Role.PATIENT, uuid7())) for id in patients]
        stack = Stack(processes, servers.mongodb_url, databases["booking"].application, doctors, people)
        await asyncio.gather(*(process.ready() for process in processes.values()))
        await stack.until(f"SELECT count(*) = {2 * _PEOPLE} FROM users")
        yield stack


async def _register(auth_url: str, doctors: list[UUID], patients: list[UUID]) -> None:
    """As rows, since 400 passwords would take longer to hash than all else; the services hear of them as usual."""
    connection = await asyncpg.connect(auth_url)
    await connection.execute(_INSERT, doctors, Role.DOCTOR, "Cardiology", 12, 80)
    await connection.execute(_INSERT, patients, Role.PATIENT, None, None, None)
    await connection.close()
    await republish(auth_url)


def _free_ports(number: int) -> list[int]:
    """Found ahead because the services have to know each other's."""
    with ExitStack() as closed:
        sockets = [closed.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [one.getsockname()[1] for one in sockets]
