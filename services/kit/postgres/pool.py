"""A pool of connections to PostgreSQL, for one event loop.

asyncpg's own pool starts a task and several timers each time it lends a connection, a sixth of the time of a single-row
read.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from asyncpg import Connection

from services.kit.postgres.connector import Connector
from services.kit.postgres.failures import leaves_connection_usable

_ACQUIRE_SECONDS = 0.5
_IDLE_SECONDS = 300.0
_SWEEP_SECONDS = 60.0


class _Idle(NamedTuple):
    connection: Connection
    since: float


class Pool:
    """Lend at most `size` connections, the one used last first. A connection is made when none is idle.

    A connection is lent as it was returned, so nothing may set session state on it.
    """

    def __init__(
        self, url: str, *, size: int, command_seconds: float, prepare: Callable[[Connection], Awaitable[None]]
    ) -> None:
        self._connector, self._size = Connector(url), size
        self._command_seconds, self._prepare = command_seconds, prepare
        self._free = asyncio.Semaphore(size)
        self._idle: deque[_Idle] = deque()
        self._open: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    async def acquire(self) -> Connection:
        """Return a connection; raise `TimeoutError` when none comes free, or none can be made, within half a second."""
        if self._free.locked():
            async with asyncio.timeout(_ACQUIRE_SECONDS):
                await self._free.acquire()
        else:
            await self._free.acquire()
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._open.discard(connection)
        try:
            async with asyncio.timeout(_ACQUIRE_SECONDS):
                return await self._connect()
        except BaseException:
            self._free.release()
            raise

    def release(self, connection: Connection, error: BaseException | None = None) -> None:
        """Take back a connection after the block that used it ended, with `error` if it failed.

        End it instead when it is still in a transaction, or when `error` leaves its state uncertain.
        """
        if connection.is_closed() or connection.is_in_transaction() or not leaves_connection_usable(error):
            connection.terminate()
            self._open.discard(connection)
        else:
            self._idle.append(_Idle(connection, monotonic()))
            if self._sweeping is None:
                self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
        self._free.release()

    async def close(self) -> None:
        """Wait up to 3 s for the connections in use, close all, and terminate those that are still open."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                for _ in range(self._size):
                    await self._free.acquire()
                await asyncio.gather(*(idle.connection.close() for idle in self._idle))
        for connection in self._open:
            connection.terminate()

    async def _connect(self) -> Connection:
        connection = await self._connector.connect(command_timeout=self._command_seconds)
        try:
            await self._prepare(connection)
        except BaseException:
            connection.terminate()
            raise
        self._open.add(connection)
        return connection

    def _sweep(self) -> None:
        """Terminate connections that have been idle for long, as after a rush."""
        long_ago = monotonic() - _IDLE_SECONDS
        while self._idle and (self._idle[0].since < long_ago or self._idle[0].connection.is_closed()):
            connection, _ = self._idle.popleft()
            connection.terminate()
            self._open.discard(connection)
        self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep) if self._idle else None
