from datetime import datetime
from uuid import UUID

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.contracts.enums import Role
from services.kit.errors import NotFound
from services.kit.http.access_audit import record
from services.kit.http.guards import AuthenticatedRequest, requires
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import CALLER_CHECKED, WITH_ROLE, responses
from services.notification.dead_letters.schemas import DeadLetter, Replay
from services.notification.dead_letters.service import ReplayService
from services.notification.errors import ChannelNotConfigured, ReplayFailed


class DeadLetterController(Controller):
    path = "/api/notifications/dead-letters"
    tags = ["Deliveries"]
    opt = record("dead letter")

    @get(
        operation_id="listDeadLetters",
        summary="List dead letters",
        before_request=requires(Role.ADMIN),
        responses=responses(*WITH_ROLE),
    )
    async def list_dead_letters(
        self, replays: NamedDependency[ReplayService], limit: Limit = 50, cursor: Cursor = None
    ) -> Page[DeadLetter]:
        """For admins. Events that could not be handled and deliveries that failed for good, newest first."""
        before = decode_cursor(cursor, tuple[datetime, UUID])
        found = await replays.list(before=before, limit=limit + 1)
        return Page.of(found, limit, lambda letter: (letter.died_at, letter.id))

    @post(
        "/{id:uuid}/replay",
        operation_id="replayDeadLetter",
        summary="Replay a dead letter",
        status_code=200,
        before_request=requires(Role.ADMIN),
        responses=responses(*CALLER_CHECKED, NotFound, ReplayFailed, ChannelNotConfigured),
    )
    async def replay(
        self, id: FromPath[UUID], request: AuthenticatedRequest, replays: NamedDependency[ReplayService]
    ) -> Replay:
        """For admins. An event is handled as if it had just arrived; if it fails again, it stays a dead letter and the
        answer is a 409 with the reason. A delivery becomes due at once, with all its attempts. Repeating this is safe.
        """
        return await replays.replay(request.user, id)
