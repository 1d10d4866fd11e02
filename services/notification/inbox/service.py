import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from msgspec import UNSET
from prometheus_client import CollectorRegistry, Counter, Histogram
from uuid_utils.compat import uuid7

from services.contracts import streams
from services.contracts.enums import Role, UserStatus
from services.contracts.events import (
    AppointmentCancelled,
    AppointmentCreated,
    AppointmentEvent,
    AppointmentRescheduled,
    AppointmentUpdated,
    UserState,
)
from services.kit.auth import Principal, SessionEnded
from services.kit.errors import Forbidden, NotFound
from services.kit.events import Envelope, EventMetrics
from services.kit.metrics import SECONDS
from services.notification.directory.repository import (
    AppointmentRepository,
    RevokedSessionRepository,
    UserRepository,
)
from services.notification.directory.service import Directory
from services.notification.errors import AccountSuspended
from services.notification.inbox.messages import render
from services.notification.inbox.repository import NotificationRepository
from services.notification.inbox.schemas import Channel, Notification, NotificationStatus, NotificationType, ReadMark

_TYPES = {
    AppointmentCreated: NotificationType.APPOINTMENT_CREATED,
    AppointmentUpdated: NotificationType.APPOINTMENT_UPDATED,
    AppointmentCancelled: NotificationType.APPOINTMENT_CANCELLED,
    AppointmentRescheduled: NotificationType.APPOINTMENT_RESCHEDULED,
}


class NotifyingMetrics:
    def __init__(self, registry: CollectorRegistry, events: EventMetrics) -> None:
        self._events = events
        self._added = Counter(
            "notifications_added_total", "Notifications stored", ["type", "channel"], registry=registry
        )
        self._delay = Histogram(
            "notification_delay_seconds",
            "Seconds from an event's transaction, by its writer's clock, to its notifications being stored",
            buckets=SECONDS,
            registry=registry,
        )

    def observe(self, envelope: Envelope[AppointmentEvent], added: Sequence[Notification], repeated: int) -> None:
        for notification in added:
            self._added.labels(notification.type, notification.channel).inc()
        if repeated:
            self._events.duplicates.labels(streams.APPOINTMENTS.name).inc()
        else:
            self._delay.observe((datetime.now(UTC) - envelope.created_at).total_seconds())


class NotifyingService:
    """Tells both people of an appointment what became of it."""

    def __init__(
        self,
        directory: Directory,
        appointments: AppointmentRepository,
        notifications: NotificationRepository,
        metrics: NotifyingMetrics,
    ) -> None:
        self._directory, self._appointments, self._notifications = directory, appointments, notifications
        self._metrics = metrics

    async def notify(self, envelope: Envelope[AppointmentEvent]) -> None:
        """May be called again for the same event, and for an appointment's events in any order: each tells its own."""
        event = envelope.event
        patient, doctor = await self._directory.get(event.patient_id, event.doctor_id)
        written = [_written(event, patient, doctor), _written(event, doctor, patient)]
        _, added = await asyncio.gather(self._appointments.put(event), self._notifications.add(envelope.id, written))
        self._metrics.observe(envelope, added, len(written) - len(added))


class InboxService:
    def __init__(
        self, users: UserRepository, revoked_sessions: RevokedSessionRepository, notifications: NotificationRepository
    ) -> None:
        self._users, self._revoked_sessions, self._notifications = users, revoked_sessions, notifications

    async def mark_read(self, principal: Principal, recipient_id: UUID, mark: ReadMark) -> int:
        """How many were unread until now. An admin may see somebody's list, and so learns why this is refused."""
        if principal.id != recipient_id:
            raise Forbidden if principal.role == Role.ADMIN else NotFound
        # Whoever has a notification is in the projection: it was written with the name that stands there.
        known, session_revoked = await asyncio.gather(
            self._users.find([principal.id]), self._revoked_sessions.has(principal.session_id)
        )
        caller = known.get(principal.id)
        if caller is not None and caller.status is UserStatus.SUSPENDED:
            raise AccountSuspended
        if session_revoked:
            raise SessionEnded
        return await self._notifications.mark_read(recipient_id, None if mark.ids is UNSET else mark.ids)


def _written(event: AppointmentEvent, recipient: UserState, other: UserState) -> Notification:
    now = datetime.now(UTC)
    return Notification(
        id=uuid7(),
        recipient_id=recipient.id,
        channel=Channel.IN_APP,
        type=_TYPES[type(event)],
        appointment_id=event.appointment_id,
        patient_id=event.patient_id,
        doctor_id=event.doctor_id,
        message=render(event, recipient, other),
        status=NotificationStatus.SENT,
        created_at=now,
        sent_at=now,
        read_at=None,
        attempts=1,
    )
