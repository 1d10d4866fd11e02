from typing import Annotated
from uuid import UUID

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody, QueryParameter

from services.contracts.enums import Role
from services.kit.errors import NotFound
from services.kit.http.access_audit import record
from services.kit.http.guards import AuthenticatedRequest, requires
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import CALLER_CHECKED, SIGNED_IN, WITH_ROLE, responses
from services.notification.inbox.repository import NotificationRepository
from services.notification.inbox.schemas import (
    Channel,
    Notification,
    NotificationFilter,
    NotificationStatus,
    NotificationType,
    ReadMark,
    ReadResult,
    Statistics,
    UserId,
)
from services.notification.notifying.service import InboxService


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
        notifications: NamedDependency[NotificationRepository],
        type: FromQuery[NotificationType | None] = None,
        unread: Annotated[
            bool | None, QueryParameter(description="Only what has not been read in the app, or only what has")
        ] = None,
        status: FromQuery[NotificationStatus | None] = None,
        channel: FromQuery[Channel] = Channel.IN_APP,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[Notification]:
        """Newest first, those in the app unless `channel` says otherwise: an e-mail about an appointment repeats what
        stands there already.

        For that user and for an admin; anybody else is told that there is no such list.
        """
        if request.user.id != user_id and request.user.role != Role.ADMIN:
            raise NotFound
        before = decode_cursor(cursor, UUID)
        wanted = NotificationFilter(type=type, unread=unread, status=status, channel=channel)
        found = await notifications.list(user_id, wanted, before=before, limit=limit + 1)
        return Page.of(found, limit, lambda notification: notification.id)

    @get(
        "/stats",
        operation_id="getNotificationStatistics",
        summary="Count notifications",
        before_request=requires(Role.ADMIN),
        responses=responses(*WITH_ROLE),
    )
    async def get_statistics(self, notifications: NamedDependency[NotificationRepository]) -> Statistics:
        """For an admin: how many there are of each type, channel and status, and since when the oldest one waits."""
        return await notifications.statistics()

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
        inbox: NamedDependency[InboxService],
    ) -> ReadResult:
        """For that user alone. Answers how many were unread until now: ids that are read already, or are not among the
        user's notifications, change nothing.
        """
        return ReadResult(changed=await inbox.mark_read(request.user, user_id, data))
