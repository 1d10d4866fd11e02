"""The platform as it is deployed, on one machine: durable servers, a process for each service, people who use it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from services.contracts.enums import Role
from services.standalone.servers import Servers
from tests.deployment import Deployment, NotStarted, Process, Stores

_WAIT_SECONDS = 60.0
_PEOPLE = 200  # of either kind: more than there are connections, so that nobody is in two requests at a time


class BenchFailed(Exception):
    """The message is for the person who measures."""


class Person(NamedTuple):
    id: UUID
    token: str


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
        stores = await Stores.migrated(
            postgres_url=servers.postgres_url,
            redis_url=servers.redis_url,
            mongodb_url=servers.mongodb_url,
            kept=servers.kept,
        )
        deployment = Deployment(folder, stores)
        exits.callback(deployment.stop)
        processes = {name: deployment.launch(name) for name in ("auth", "booking", "notification")}
        processes["bare"] = deployment.launch("bare", "tests.bench.bare")
        doctors, patients = [[uuid7() for _ in range(_PEOPLE)] for _ in range(2)]
        await deployment.register(Role.DOCTOR, doctors)
        await deployment.register(Role.PATIENT, patients)
        people = [Person(id, deployment.token(id, Role.PATIENT)) for id in patients]
        stack = Stack(processes, stores.mongodb_url, stores.booking.application, doctors, people)
        try:
            await deployment.ready()
        except NotStarted as failure:
            raise BenchFailed(str(failure)) from None
        await stack.until(f"SELECT count(*) = {2 * _PEOPLE} FROM users")
        yield stack
