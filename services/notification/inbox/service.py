from uuid import UUID

from msgspec import UNSET

from services.contracts.enums import Role
from services.kit.auth import Principal
from services.kit.errors import Forbidden, NotFound
from services.notification.directory.callers import Callers
from services.notification.inbox.repository import InboxRepository
from services.notification.inbox.schemas import ReadMark


class InboxService:
    def __init__(self, callers: Callers, inbox: InboxRepository) -> None:
        self._callers, self._inbox = callers, inbox

    async def mark_read(self, principal: Principal, recipient_id: UUID, mark: ReadMark) -> int:
        """Return how many were unread. An admin, who may read the list, is told why this is refused: 403, not 404."""
        if principal.id != recipient_id:
            raise Forbidden if principal.role == Role.ADMIN else NotFound
        await self._callers.check(principal)
        return await self._inbox.mark_read(recipient_id, None if mark.ids is UNSET else mark.ids)
