from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from services.auth.errors import CONSTRAINTS
from services.kit.postgres.engine import async_engine
from services.kit.postgres.failures import translated

M = TypeVar("M", bound=Any)

_CONNECTIONS = 5
_ACQUIRE_SECONDS = 0.5
_COMMAND_SECONDS = 1.0


class Transactions:
    """SQLAlchemy sessions for writes: each is one transaction, committed when the block ends without an error.

    Not a dependency that yields: Litestar would wrap a failing ROLLBACK or a translated error in an ExceptionGroup and
    answer 500, and a login would hold its connection while its password waits to be hashed.
    """

    def __init__(self, url: str, *, max_connections: int = _CONNECTIONS) -> None:
        self._engine = async_engine(
            url,
            connect={"timeout": _ACQUIRE_SECONDS, "command_timeout": _COMMAND_SECONDS},
            pool_size=max_connections,
            max_overflow=0,
            pool_timeout=_ACQUIRE_SECONDS,
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        try:
            async with self._sessions.begin() as session:
                yield session
        except Exception as error:
            meaning = translated(error, CONSTRAINTS)
            if meaning is error:
                raise
            raise meaning from error

    async def check(self) -> None:
        """A readiness check: transactions succeed on this pool."""
        async with self.begin() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self._engine.dispose()


class Repository(SQLAlchemyAsyncRepository[M]):
    """The writes of one table, in the transaction of `session`.

    Without advanced-alchemy's SELECT after each INSERT, and without its wrapping of errors, which turns time-outs and
    lost connections into conflicts.
    """

    session: AsyncSession

    def __init__(self, session: AsyncSession) -> None:
        super().__init__(session=session, auto_refresh=False, wrap_exceptions=False)
