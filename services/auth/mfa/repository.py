from collections.abc import Iterable, Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.models import SecondFactor, recovery_codes


class FactorRepository:
    """Second factors, in the transaction of `session`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, user_id: UUID) -> SecondFactor | None:
        return await self._session.scalar(sa.select(SecondFactor).where(SecondFactor.user_id == user_id))

    async def replace(self, user_id: UUID, sealed: bytes) -> SecondFactor:
        """A new one that is not confirmed yet."""
        await self.remove(user_id)
        factor = SecondFactor(user_id=user_id, secret=sealed)
        self._session.add(factor)
        await self._session.flush()
        return factor

    async def confirm(self, factor: SecondFactor, step: int, code_hashes: Iterable[bytes]) -> None:
        factor.last_step = step
        factor.confirmed_at = sa.func.now()
        await self._session.flush()
        rows = [{"factor_id": factor.id, "code_hash": code_hash} for code_hash in code_hashes]
        await self._session.execute(sa.insert(recovery_codes), rows)

    async def spend_step(self, factor: SecondFactor, step: int) -> bool:
        """False when a code of this step or a later one was used, by somebody at the same instant too."""
        spent = sa.update(SecondFactor).where(SecondFactor.id == factor.id, SecondFactor.last_step < step)
        spent = spent.values(last_step=step).execution_options(synchronize_session=False)
        return await self._session.scalar(spent.returning(SecondFactor.id)) is not None

    async def spend_recovery_code(self, factor: SecondFactor, code_hashes: Sequence[bytes]) -> bool:
        spent = sa.delete(recovery_codes).where(
            recovery_codes.c.factor_id == factor.id, recovery_codes.c.code_hash.in_(code_hashes)
        )
        return await self._session.scalar(spent.returning(recovery_codes.c.factor_id)) is not None

    async def remove(self, user_id: UUID) -> None:
        await self._session.execute(
            sa.delete(SecondFactor).where(SecondFactor.user_id == user_id).execution_options(synchronize_session=False)
        )
