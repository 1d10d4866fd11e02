"""PostgreSQL through asyncpg: a pool, transactions with bounded retries, and Core statements that are compiled once.

Nothing resets a connection between two uses, which is worth 45 % of the throughput of a single-row read. So use no SET,
LISTEN or session-level lock; `SET LOCAL` and transaction-level locks are fine.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from time import perf_counter
from typing import Any, TypeVar

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect

from services.kit.errors import Unavailable
from services.kit.failpoints import failpoint
from services.kit.metrics import Seconds
from services.kit.postgres.failures import Constraints, leaves_connection_usable, sqlstate, translated
from services.kit.postgres.pool import Pool
from services.kit.tasks import backoff

T = TypeVar("T")
Connection = Any  # asyncpg's, whose annotations cannot tell the types of a record's values

log = structlog.get_logger("database")
_DIALECT = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]
_RETRYABLE = {"40001", "40P01"}
_ATTEMPTS = 3
_COMMAND_SECONDS = 1.0
_TRANSACTION_SECONDS = 2.5


class Statement:
    """A Core statement compiled to asyncpg's SQL. Values are passed by the names of its `bindparam`s."""

    def __init__(self, statement: ClauseElement) -> None:
        compiled: Any = statement.compile(dialect=_DIALECT)
        if "POSTCOMPILE" in str(compiled):
            raise ValueError("an expanding IN cannot be compiled once: use = ANY(:values)")
        self.sql = str(compiled)
        self.names: list[str] = list(compiled.positiontup or ())
        self._known = frozenset(self.names)
        self._defaults: dict[str, Any] = compiled.params

    def values(self, values: Mapping[str, Any]) -> list[Any]:
        if not values.keys() <= self._known:
            raise TypeError(f"no such parameters: {sorted(values.keys() - self._known)}")
        return [values[name] if name in values else self._defaults[name] for name in self.names]

    async def fetch(self, connection: Connection, **values: Any) -> list[Any]:
        rows: list[Any] = await connection.fetch(self.sql, *self.values(values))
        return rows

    async def fetchrow(self, connection: Connection, **values: Any) -> Any:
        return await connection.fetchrow(self.sql, *self.values(values))

    async def fetchval(self, connection: Connection, **values: Any) -> Any:
        return await connection.fetchval(self.sql, *self.values(values))

    async def execute(self, connection: Connection, **values: Any) -> str:
        status: str = await connection.execute(self.sql, *self.values(values))
        return status


class Database:
    """The pool of a service. Its time-outs are on this side, because a stopped server fires none of its own.

    A server that is down or too slow raises `Unavailable` within 3 s, and a violated constraint the error that
    `constraints` maps its name to.
    """

    def __init__(
        self,
        url: str,
        *,
        registry: CollectorRegistry,
        constraints: Constraints | None = None,
        max_connections: int = 20,
    ) -> None:
        self._url = url
        self._constraints = constraints or {}
        self._max_connections = max_connections
        self._pool: Any = None
        self._wait = Seconds("database_pool_wait_seconds", "Seconds waited for a connection", registry=registry)
        self._retries = Counter("database_transaction_retries_total", "Transactions tried again", registry=registry)
        Gauge("database_pool_connections", "Open connections of the pool", registry=registry).set_function(
            lambda: len(self._pool) if self._pool else 0
        )

    async def open(self) -> None:
        """Create the pool. It connects on first use, so that a service starts while its database is down."""
        self._pool = Pool(self._url, size=self._max_connections, command_seconds=_COMMAND_SECONDS, prepare=_set_codecs)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()

    def connection(self) -> "_Borrowed":
        """Lend a connection to a block, for single statements; database errors in the block are translated."""
        return _Borrowed(self._pool, self._wait, self._constraints)

    async def transact(
        self,
        work: Callable[[Connection], Awaitable[T]],
        *,
        before: Callable[[Connection], Awaitable[T | None]] | None = None,
    ) -> T:
        """Run `work(connection)` in a READ COMMITTED transaction, and commit before returning.

        `work` runs up to three times: serialization failures and deadlocks are retried, also those at COMMIT. A
        connection lost at COMMIT raises `Unavailable`, since the outcome is unknown: the client repeats the request
        with its idempotency key.

        `before` runs first, on the same connection and outside the transaction. What it returns or raises is the
        outcome; with None the transaction begins.
        """
        try:
            # Each step has a time-out of its own, but a server that is slow at every step would exceed 3 s in total.
            async with asyncio.timeout(_TRANSACTION_SECONDS):
                for attempt in count(1):
                    try:
                        async with self.connection() as connection:
                            if before is not None and (outcome := await before(connection)) is not None:
                                return outcome
                            return await _commit(connection, work)
                    except Unavailable as error:
                        if attempt == _ATTEMPTS or sqlstate(error.__cause__) not in _RETRYABLE:
                            raise
                    self._retries.inc()
                    await asyncio.sleep(backoff(attempt, 0.03, 0.06))
        except TimeoutError as error:
            log.warning("transaction took too long")
            raise Unavailable from error
        raise AssertionError("unreachable")

    async def fetch(self, statement: Statement, **values: Any) -> list[Any]:
        async with self.connection() as connection:
            return await statement.fetch(connection, **values)

    async def fetchrow(self, statement: Statement, **values: Any) -> Any:
        async with self.connection() as connection:
            return await statement.fetchrow(connection, **values)


class _Borrowed:
    """A class, because `@asynccontextmanager` takes a fiftieth of a small read's time."""

    __slots__ = ("_connection", "_constraints", "_pool", "_wait")

    def __init__(self, pool: Pool, wait: Seconds, constraints: Constraints) -> None:
        self._pool, self._wait, self._constraints = pool, wait, constraints

    async def __aenter__(self) -> Connection:
        started = perf_counter()
        try:
            self._connection = await self._pool.acquire()
        except Exception as error:
            self._translate(error)
            raise
        self._wait.observe(perf_counter() - started)
        return self._connection

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._pool.release(self._connection, error)
        if isinstance(error, Exception):
            self._translate(error)

    def _translate(self, error: Exception) -> None:
        meaning = translated(error, self._constraints)
        if meaning is not error:
            raise meaning from error


async def _commit(connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
    transaction = connection.transaction()
    try:
        await transaction.start()
    except BaseException:
        # asyncpg would take itself to be in a transaction from now on, and make every later one a savepoint.
        connection.terminate()
        raise
    try:
        result = await work(connection)
    except BaseException as error:
        if leaves_connection_usable(error):
            await transaction.rollback()
        # Otherwise `connection()` ends the connection: a ROLLBACK could wait another second for a silent server.
        raise
    await transaction.commit()
    failpoint("committed")
    return result


def _encode_jsonb(value: Any) -> bytes:
    return b"\x01" + msgspec.json.encode(value)


def _decode_jsonb(value: bytes) -> Any:
    return msgspec.json.decode(value[1:])


async def _set_codecs(connection: Connection) -> None:
    # asyncpg itself returns jsonb as str. The first byte of the binary form is its version.
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
    )
