"""The platform as it is deployed, on one machine: durable servers, a process for each service, and users."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
from argon2 import PasswordHasher

from services.contracts.enums import Role
from services.standalone.databases import DatabaseUrls, database_urls
from services.standalone.servers import Servers
from tests.bench.client import Plan, sent
from tests.bench.data import DOCTORS, PATIENTS, fill
from tests.bench.requests import PASSWORD, Requests
from tests.support.deployment import Deployment, Stores
from tests.support.process import NotStarted, ServiceProcess
from tests.support.quotas import UNLIMITED

_WAIT_SECONDS = 120.0
# High enough that quotas are counted, as in production, but refuse no request.
_QUOTAS = {**dict.fromkeys(UNLIMITED, "1000000"), "USER_REQUESTS_PER_MINUTE": "100000000"}


class BenchFailed(Exception):
    """The measurement cannot continue; the message is printed."""


class Stack:
    """The platform on its smallest database, and databases of other sizes for processes that are started for them.

    `copies` are booking's databases by their number of appointments. pgbench has a database of its own, which no relay
    reads.
    """

    def __init__(self, deployment: Deployment, stores: Stores, copies: dict[int, DatabaseUrls], pgbench: str) -> None:
        self._deployment = deployment
        self._redis_url = stores.redis_url_of("booking")
        self.mongodb_url, self.auth_url, self.booking_url = (
            stores.mongodb_url,
            stores.auth.application,
            stores.booking.application,
        )
        self.copies, self.pgbench_url = copies, pgbench
        self.requests = Requests(deployment.token)

    def processes(self, service: str) -> list[ServiceProcess]:
        return [process for process in self._deployment.processes[service] if process.alive]

    async def add_replicas(self, *services: str, **settings: str) -> None:
        for service in services:
            self._deployment.launch(service, **settings)
        await self.ready()

    def remove_replicas(self, service: str) -> None:
        """Stop all replicas but the first."""
        for process in self.processes(service)[1:]:
            process.stop()

    @asynccontextmanager
    async def booking_of_every_size(self) -> AsyncIterator[dict[int, ServiceProcess]]:
        """Yield a replica of booking for each size of database, each with a Redis database of its own."""
        processes = {min(self.copies): self.processes("booking")[0]}
        for number, (size, urls) in enumerate(sorted(self.copies.items())[1:], 1):
            redis_url = f"{self._redis_url.removesuffix('/0')}/{number}"
            processes[size] = self._deployment.launch(
                "booking", BOOKING_DATABASE_URL=urls.application, REDIS_URL=redis_url
            )
        await self.ready()
        yield processes
        self.remove_replicas("booking")

    async def ready(self) -> None:
        """Wait until every process is ready and has filled its connection pools.

        On a busy machine, opening the first of 20 connections may otherwise time out during a measurement.
        """
        try:
            await asyncio.gather(*(process.ready() for process in self._deployment.all if process.alive))
        except NotStarted as failure:
            raise BenchFailed(str(failure)) from None
        for service, requests in (("auth", self.requests.get_doctor()), ("booking", self.requests.list_appointments())):
            for process in self.processes(service):
                await sent(
                    Plan(ports=[process.port], requests=requests, repeatable=True, seconds=1, expected=(200, 503))
                )

    async def settled(self) -> None:
        """Wait until every event is in its stream, so that no measurement pays for work of an earlier one."""
        for urls in self.copies.values():
            await until(urls.application, "SELECT NOT EXISTS (SELECT FROM outbox WHERE stream_seq IS NULL)")


async def until(url: str, condition: str) -> None:
    """Poll an SQL condition until it is true."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while not await connection.fetchval(condition):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise BenchFailed(f"still false after {_WAIT_SECONDS:.0f} s: {condition}") from None
    finally:
        await connection.close()


@asynccontextmanager
async def running(folder: Path, sizes: Sequence[int]) -> AsyncIterator[Stack]:
    """Start the platform, filled to the given sizes, with its data and logs in `folder`."""
    with ExitStack() as exits:
        servers = exits.enter_context(Servers(folder / "data"))
        stores = await Stores.migrated(
            postgres_url=servers.postgres_url,
            redis_url=servers.redis_url,
            mongodb_url=servers.mongodb_url,
            kept=servers.kept,
        )
        copies = {min(sizes): stores.booking}
        for size in sorted(sizes)[1:]:
            copies[size] = await _copied(servers, f"booking_{size}")
        pgbench = await _copied(servers, "booking_pgbench")
        for size, urls in [*copies.items(), (min(sizes), pgbench)]:
            await fill(urls.migration, size)
        connection = await asyncpg.connect(servers.postgres_url)
        await connection.execute("CHECKPOINT")  # now, so that none falls into a measurement
        await connection.close()
        deployment = Deployment(folder, stores, **_QUOTAS)
        exits.callback(deployment.stop)
        for service in ("auth", "booking", "notification"):
            deployment.launch(service)
        deployment.launch("bare", "tests.bench.bare")
        for role, people in ((Role.DOCTOR, DOCTORS), (Role.PATIENT, PATIENTS)):
            await deployment.register(role, people)
        connection = await asyncpg.connect(stores.auth.application)
        password_hash = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1).hash(PASSWORD)
        await connection.execute("UPDATE users SET password_hash = $1", password_hash)
        await connection.close()
        stack = Stack(deployment, stores, copies, pgbench.application)
        await stack.ready()
        yield stack


async def _copied(servers: Servers, name: str) -> DatabaseUrls:
    """Create a copy of booking's database, which is still empty."""
    connection = await asyncpg.connect(servers.postgres_url)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE booking OWNER booking_owner")
    await connection.close()
    return database_urls(servers.postgres_url, servers.kept, "booking", name)
