"""The platform as it is deployed, on one machine: durable servers, a process for each service, people who use it."""

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

_WAIT_SECONDS = 120.0
# More than anybody uses, so that they are counted and nobody is refused.
_QUOTAS = {"USER_REQUESTS_PER_MINUTE": "100000000", "PATIENT_BOOKINGS_PER_HOUR": "100000000"}


class BenchFailed(Exception):
    """The message is for the person who measures."""


class Stack:
    """The platform on its smallest database, and databases of other sizes for processes that are started for them.

    `copies` are booking's databases by the number of their appointments; pgbench has one of its own, which no relay
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

    async def add_replicas(self, *services: str) -> None:
        for service in services:
            self._deployment.launch(service)
        await self.ready()

    def remove_replicas(self, service: str) -> None:
        """All but the first."""
        for process in self.processes(service)[1:]:
            process.stop()

    @asynccontextmanager
    async def booking_of_every_size(self) -> AsyncIterator[dict[int, ServiceProcess]]:
        """The streams of each are in a Redis database of their own."""
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
        """Started, and their pools filled: on a busy machine the first of 20 connections may take too long."""
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
        """Returns when all events are in the stream, so that no measurement pays for what was before it."""
        for urls in self.copies.values():
            await until(urls.application, "SELECT NOT EXISTS (SELECT FROM outbox WHERE stream_seq IS NULL)")


async def until(url: str, condition: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while not await connection.fetchval(condition):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise BenchFailed(f"it does not come to {condition}") from None
    finally:
        await connection.close()


@asynccontextmanager
async def running(folder: Path, sizes: Sequence[int]) -> AsyncIterator[Stack]:
    """`folder` gets the data and the logs."""
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
        await connection.execute("CHECKPOINT")  # now, and not while something is measured
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
    """A database like booking's, which is empty so far."""
    connection = await asyncpg.connect(servers.postgres_url)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE booking OWNER booking_owner")
    await connection.close()
    return database_urls(servers.postgres_url, servers.kept, "booking", name)
