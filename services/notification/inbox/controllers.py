from typing import Annotated
from uuid import UUID

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, PathParameter, QueryParameter

from services.contracts.enums import Role
from services.kit.errors import NotFound
from services.kit.http.access_audit import record
from services.kit.http.guards import AuthenticatedRequest, requires
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import CALLER_CHECKED, SIGNED_IN, WITH_ROLE, responses
from services.notification.inbox.repository import InboxRepository
from services.notification.inbox.schemas import Notification, NotificationFilter, ReadMark, ReadResult, Statistics
from services.notification.inbox.service import InboxService
from services.notification.notifying.schemas import Channel, NotificationStatus, NotificationType

UserId = Annotated[UUID, PathParameter(name="userId")]


class InboxController(Controller):
    path = "/api/notifications"
    tags = ["Notifications"]
    opt = record("notifications")

    @get(
        "/{userId:uuid}",
        operation_id="listNotifications",
        summary="List a user's notifications",
        before_request=requires(),
        responses=responses(*SIGNED_IN, NotFound),
    )
    async def list_notifications(
        self,
        user_id: UserId,
        request: AuthenticatedRequest,
        inbox: NamedDependency[InboxRepository],
        type: FromQuery[NotificationType | None] = None,
        unread: Annotated[
            bool | None, QueryParameter(description="Only unread in-app notifications, or only read ones")
        ] = None,
        status: FromQuery[NotificationStatus | None] = None,
        channel: FromQuery[Channel] = Channel.IN_APP,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[Notification]:
        """Newest first. Without `channel`, in-app notifications only: an e-mail about an appointment repeats one of
        them.

        For that user and for admins; for any other caller the list does not exist.
        """
        if request.user.id != user_id and request.user.role != Role.ADMIN:
            raise NotFound
        before = decode_cursor(cursor, UUID)
        wanted = NotificationFilter(type=type, unread=unread, status=status, channel=channel)
        found = await inbox.list(user_id, wanted, before=before, limit=limit + 1)
        return Page.of(found, limit, lambda notification: notification.id)

    @get(
        "/stats",
        operation_id="getNotificationStatistics",
        summary="Count notifications",
        before_request=requires(Role.ADMIN),
        responses=responses(*WITH_ROLE),
    )
    async def get_statistics(self, inbox: NamedDependency[InboxRepository]) -> Statistics:
        """For admins: how many there are by type, channel and status, and since when the oldest undelivered is due."""
        return await inbox.statistics()

    @post(
        "/{userId:uuid}/read",
        operation_id="markNotificationsRead",
        summary="Mark notifications as read",
        status_code=200,
        before_request=requires(),
        responses=responses(*CALLER_CHECKED, NotFound),
    )
    async def mark_read(
        self,
        user_id: UserId,
        data: JSONBody[ReadMark],
        request: AuthenticatedRequest,
        inbox_service: NamedDependency[InboxService],
    ) -> ReadResult:
        """For that user only. The answer says how many were unread; ids that are read already, or belong to another
        user, change nothing.
        """
        return ReadResult(changed=await inbox_service.mark_read(request.user, user_id, data))
