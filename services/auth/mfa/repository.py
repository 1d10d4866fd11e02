from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from services.auth.database import Repository
from services.auth.models import SecondFactor, recovery_codes


class FactorRepository(Repository[SecondFactor]):
    """Second factors and their recovery codes."""

    model_type = SecondFactor

    async def find_by_user(self, user_id: UUID) -> SecondFactor | None:
        return await self.get_one_or_none(user_id=user_id)

    async def replace(self, user_id: UUID, encrypted: bytes) -> SecondFactor:
        """Return a new factor, which is not confirmed yet, in place of the old one."""
        await self.remove(user_id)
        factor = SecondFactor(user_id=user_id, secret=encrypted)
        return await self.add(factor)

    async def confirm(self, factor: SecondFactor, step: int, code_hashes: Iterable[bytes]) -> None:
        factor.last_step = step
        factor.confirmed_at = sa.func.now()
        await self.session.flush()
        rows = [{"factor_id": factor.id, "code_hash": code_hash} for code_hash in code_hashes]
        await self.session.execute(sa.insert(recovery_codes), rows)

    async def spend_step(self, factor: SecondFactor, step: int) -> bool:
        """Return False if a code of this step or a later one was used, even at the same instant."""
        spent = sa.update(SecondFactor).where(SecondFactor.id == factor.id, SecondFactor.last_step < step)
        spent = spent.values(last_step=step).execution_options(synchronize_session=False)
        return await self.session.scalar(spent.returning(SecondFactor.id)) is not None

    async def spend_recovery_code(self, factor: SecondFactor, code_hashes: Sequence[bytes]) -> bool:
        spent = sa.delete(recovery_codes).where(
            recovery_codes.c.factor_id == factor.id, recovery_codes.c.code_hash.in_(code_hashes)
        )
        return await self.session.scalar(spent.returning(recovery_codes.c.factor_id)) is not None

    async def remove(self, user_id: UUID, *, confirmed_since: datetime | None = None) -> None:
        removed = sa.delete(SecondFactor).where(SecondFactor.user_id == user_id)
        if confirmed_since is not None:
            removed = removed.where(SecondFactor.confirmed_at >= confirmed_since)
        await self.session.execute(removed.execution_options(synchronize_session=False))
