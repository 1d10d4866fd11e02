from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from services.auth.errors import CONSTRAINTS
from services.kit.postgres.engine import async_engine
from services.kit.postgres.failures import translated

_CONNECTIONS = 5
_ACQUIRE_SECONDS = 0.5
_COMMAND_SECONDS = 1.0


class Transactions:
    """SQLAlchemy sessions for what writes: each is one transaction, committed when the block ends without an error.

    Not a dependency that yields: Litestar would hand a failing ROLLBACK or a translated error on as an ExceptionGroup,
    which is a 500, and a login would hold its connection while it waits for a core to hash a password on.
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
