from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.models import User, audit_log
from services.kit.auth import Principal
from services.kit.trail.entry import entry
from services.kit.trail.tables import entry_values, insert_entry

_append = insert_entry(audit_log)


class AuditRepository:
    """The audit trail, in the transaction of `session`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, *entries: dict[str, Any]) -> None:
        await self._session.execute(_append, [entry_values(one) for one in entries])

    async def tell(self, action: str, user: User, actor: Principal | None = None) -> None:
        """Something done to an account: by `actor`, or by somebody who had no session for it."""
        await self.add(entry(action, actor=actor, target_type=user.role.lower(), target_id=user.id))
