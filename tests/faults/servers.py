"""PostgreSQL, Redis and MongoDB under test: started, killed, frozen, emptied, and read past every service."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Self, TypeVar

import asyncpg
import msgspec
import psutil
import pymongo
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import make_url

from services.contracts.streams import ALL, Stream
from services.kit.streams.redis import redis_client
from services.standalone.kept import KeptSecrets
from services.standalone.mongod import Mongod
from services.standalone.postgres import Postgres
from services.standalone.process import Server
from services.standalone.valkey import Valkey
from tests.support.process import free_ports

T = TypeVar("T")

_START_SECONDS = 60.0
_POLL_SECONDS = 0.2


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect with a codec that decodes jsonb."""
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


class Servers:
    """One server of each kind, as durable as in production.

    `mongodb_client` and `redis_client` are an administrator's connections, past every proxy and every service.
    """

    def __init__(self, folder: Path) -> None:
        self.secrets = KeptSecrets(folder / "secrets.json")
        self.postgres, self.redis, self.mongodb = (
            kind(folder, self.secrets, durable=True) for kind in (Postgres, Valkey, Mongod)
        )
        # The kernel stops a server together with the thread that launched it, so one thread lives as long as they do.
        self._launcher = ThreadPoolExecutor(1)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with AsyncExitStack() as exits:
            exits.callback(self._launcher.shutdown)
            for server, port in zip(self.all, free_ports(3), strict=True):
                server.port = port
                exits.push_async_callback(self._in_launcher, _stop, server)
                await self.start(server)
            self.mongodb_client = pymongo.AsyncMongoClient[dict[str, Any]](
                self.mongodb.url, uuidRepresentation="standard", tz_aware=True
            )
            exits.push_async_callback(self.mongodb_client.close)
            self.redis_client = redis_client(self.redis.url, connect_seconds=5, answer_seconds=5)
            exits.push_async_callback(self.redis_client.aclose)
            yield self

    @property
    def all(self) -> tuple[Server, ...]:
        return self.postgres, self.redis, self.mongodb

    @asynccontextmanager
    async def database(self, service: str) -> AsyncIterator[asyncpg.Connection]:
        """Connect to a service's database as the superuser."""
        url = make_url(self.postgres.url).set(database=service).render_as_string(hide_password=False)
        async with connected(url) as connection:
            yield connection

    async def _in_launcher(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._launcher, work, *arguments)

    async def start(self, server: Server) -> None:
        """Start a server on the port and the data that it had before."""
        await self._in_launcher(server.launch)
        deadline = monotonic() + _START_SECONDS
        while not await self._in_launcher(server.answers):
            if server.died or monotonic() > deadline:
                raise server.failure()
            await asyncio.sleep(0.02)

    async def kill(self, server: Server) -> None:
        """Kill every process of a server at once, as a crash of the machine would."""
        for process in _processes(server):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        while server.pid is not None:
            await asyncio.sleep(0.01)
        if server is self.redis:
            # Otherwise a command to the restarted server would first try these dead connections.
            await self.redis_client.connection_pool.disconnect()

    @asynccontextmanager
    async def frozen(self, server: Server) -> AsyncIterator[None]:
        processes = _processes(server)
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in reversed(processes):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    async def replace_redis(self) -> None:
        """Kill Redis and start it without its data."""
        await self.kill(self.redis)
        shutil.rmtree(self.redis.folder / "appendonlydir")
        await self.start(self.redis)

    async def truncate_redis_log(self, number_of_bytes: int) -> None:
        """Kill Redis and restart it without the last `number_of_bytes` of its append-only file."""
        await self.kill(self.redis)
        log = max((self.redis.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
        os.truncate(log, max(0, log.stat().st_size - number_of_bytes))
        await self.start(self.redis)

    async def append(self, stream: Stream, fields: Mapping[str, str]) -> str:
        """Append an entry past the relay, under the number that the relay would give next, and return its id."""
        while True:
            top = int((await self.redis_client.xinfo_stream(stream.name))["last-generated-id"].partition(b"-")[0])
            if top == 0:  # Redis was emptied: there, an entry below `acked_through` counts as read and is trimmed
                async with self.database(stream.writer) as connection:
                    top = await connection.fetchval("SELECT coalesce(max(acked_through), 0) FROM relay_state")
            with suppress(ResponseError):  # the relay was faster, and this number is taken
                added: Any = await self.redis_client.xadd(stream.name, dict[Any, Any](fields), id=f"{top + 1}-0")
                return str(added.decode())

    async def quiet(self, within_seconds: float) -> bool:
        """Wait until every event is published and acknowledged by every group; False when that takes too long."""
        deadline = monotonic() + within_seconds
        while not await self._is_quiet():
            if monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def _is_quiet(self) -> bool:
        try:
            for stream in ALL:
                async with self.database(stream.writer) as connection:
                    if await connection.fetchval("SELECT EXISTS (SELECT FROM outbox WHERE stream_seq IS NULL)"):
                        return False
                    if stream.writer == "booking" and await connection.fetchval("SELECT count(*) FROM users") == 0:
                        return False
                    if not await self._is_read(connection, stream):
                        return False
        except (OSError, RedisError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    async def _is_read(self, connection: asyncpg.Connection, stream: Stream) -> bool:
        numbered = await connection.fetchval("SELECT coalesce(max(stream_seq), 0) FROM outbox")
        top = (await self.redis_client.xinfo_stream(stream.name))["last-generated-id"]
        acked = await connection.fetchval("SELECT acked_through FROM relay_state WHERE stream = $1", stream.name)
        # An emptied Redis into which the relay has yet to send the events again has no unread entry either.
        if max(int(top.partition(b"-")[0]), acked or 0) < numbered:
            return False
        groups = await self.redis_client.xinfo_groups(stream.name)
        return all(not group["pending"] and group["last-delivered-id"] == top for group in groups)


def _processes(server: Server) -> list[psutil.Process]:
    if server.pid is None:
        return []
    parent = psutil.Process(server.pid)
    return [parent, *parent.children(recursive=True)]


def _stop(server: Server) -> None:
    server.request_stop()
    server.finish_stop(monotonic() + 15)
