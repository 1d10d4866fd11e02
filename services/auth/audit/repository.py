from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.auth.models import User, audit_log
from services.kit.auth import Principal
from services.kit.trail.entry import entry
from services.kit.trail.tables import entry_values, insert_entry

_insert_entry = insert_entry(audit_log)


class AuditRepository:
    """The audit trail, in the transaction of `session`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def record(self, *entries: dict[str, Any]) -> None:
        await self._session.execute(_insert_entry, [entry_values(one) for one in entries])

    async def tell(self, action: str, user: User, actor: Principal | None = None) -> None:
        """Record an action on an account; `actor` is None if the caller had no session."""
        await self.record(entry(action, actor=actor, target_type=user.role.lower(), target_id=user.id))
