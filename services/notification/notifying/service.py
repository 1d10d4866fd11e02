import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from msgspec import UNSET
from prometheus_client import CollectorRegistry, Counter, Histogram
from uuid_utils.compat import uuid7

from services.contracts import events, streams
from services.contracts.enums import MailKind, Role
from services.contracts.events import (
    AppointmentCancelled,
    AppointmentCreated,
    AppointmentEvent,
    AppointmentRescheduled,
    AppointmentUpdated,
    MailRequested,
    UserEvent,
    UserState,
)
from services.kit.auth import Principal
from services.kit.errors import Forbidden, NotFound
from services.kit.metrics import SECONDS
from services.kit.streams.events import Envelope, EventMetrics
from services.notification.directory.callers import Callers
from services.notification.directory.repository import AppointmentRepository
from services.notification.directory.service import Directory
from services.notification.erasure.service import ErasureService
from services.notification.inbox.repository import NotificationRepository
from services.notification.inbox.schemas import Channel, Notification, NotificationStatus, NotificationType, ReadMark
from services.notification.notifying.wording import letter_message, render
from services.notification.repository import Document

log = structlog.get_logger("inbox")

_TYPES = {
    AppointmentCreated: NotificationType.APPOINTMENT_CREATED,
    AppointmentUpdated: NotificationType.APPOINTMENT_UPDATED,
    AppointmentCancelled: NotificationType.APPOINTMENT_CANCELLED,
    AppointmentRescheduled: NotificationType.APPOINTMENT_RESCHEDULED,
}
_MAIL_TYPES = {
    MailKind.PASSWORD_RESET: NotificationType.PASSWORD_RESET,
    MailKind.VERIFY_EMAIL: NotificationType.EMAIL_VERIFICATION,
    MailKind.PASSWORD_CHANGED: NotificationType.PASSWORD_CHANGED,
    MailKind.EMAIL_CHANGED: NotificationType.EMAIL_CHANGED,
    MailKind.MFA_ENABLED: NotificationType.MFA_ENABLED,
    MailKind.MFA_DISABLED: NotificationType.MFA_DISABLED,
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
        self.unsendable = Counter(
            "notification_mails_unsendable_total",
            "Mails with a new password's or a verifying link that were asked for while no mail server is set up",
            registry=registry,
        )

    def observe(self, envelope: Envelope[AppointmentEvent], added: Sequence[Notification], repeated: int) -> None:
        for notification in added:
            self._added.labels(notification.type, notification.channel).inc()
        self._observe(envelope, streams.APPOINTMENTS, repeated)

    def observe_mail(self, envelope: Envelope[UserEvent], type: NotificationType, repeated: int) -> None:
        if not repeated:
            self._added.labels(type, Channel.EMAIL).inc()
        self._observe(envelope, streams.USERS, repeated)

    def _observe(self, envelope: Envelope[Any], stream: streams.Stream, repeated: int) -> None:
        if repeated:
            self._events.duplicates.labels(stream.name).inc()
        else:
            self._delay.observe((datetime.now(UTC) - envelope.created_at).total_seconds())


class NotifyingService:
    """Tells both people of an appointment what became of it, in each of `channels`; `wake` is called after that."""

    def __init__(
        self,
        directory: Directory,
        appointments: AppointmentRepository,
        notifications: NotificationRepository,
        metrics: NotifyingMetrics,
        erasure: ErasureService,
        channels: Sequence[Channel],
        stored: Callable[[Sequence[Notification]], None],
    ) -> None:
        self._directory, self._appointments, self._notifications = directory, appointments, notifications
        self._metrics, self._erasure, self._channels, self._stored = metrics, erasure, channels, stored

    async def notify(self, envelope: Envelope[AppointmentEvent]) -> None:
        """May be called again for the same event, and for an appointment's events in any order: each tells its own."""
        event = envelope.event
        patient, doctor = await self._directory.get(event.patient_id, event.doctor_id)
        written = [
            _written(event, recipient, other, channel)
            for recipient, other in ((patient, doctor), (doctor, patient))
            if not recipient.erased
            for channel in self._channels
        ]
        _, added = await asyncio.gather(
            self._appointments.put(event), self._notifications.add(envelope.id, written, _material(envelope))
        )
        # Again, and by this very event's first try too: who was erased meanwhile was named by what is stored now.
        await self._erasure.forget_in(
            event.appointment_id, *await self._directory.get(event.patient_id, event.doctor_id)
        )
        self._stored(added)
        self._metrics.observe(envelope, added, len(written) - len(added))


class MailingService:
    """Takes on the mails that auth wants sent, for whichever worker sends them; `wake` is called after that.

    Nothing of what they say is kept: the worker asks auth for it when it sends.
    """

    def __init__(
        self,
        directory: Directory,
        notifications: NotificationRepository,
        metrics: NotifyingMetrics,
        *,
        has_mail_server: bool,
        wake: Callable[[], None],
    ) -> None:
        self._directory, self._notifications, self._metrics = directory, notifications, metrics
        self._has_mail_server, self._wake = has_mail_server, wake
        self._warned = False

    async def request(self, envelope: Envelope[UserEvent], event: MailRequested) -> None:
        """May be called again for the same event."""
        if not self._has_mail_server:
            self._metrics.unsendable.inc()
            if not self._warned:
                self._warned = True
                log.warning("mails with links are asked for, and SMTP_URL is not set: nobody gets them")
            return
        kind = event.kind or await self._kind(event.mail_id)
        if kind is None:
            return
        type = _MAIL_TYPES[kind]
        new = await self._notifications.add_mail(envelope.id, type, letter_message(kind), _material(envelope))
        self._wake()
        self._metrics.observe_mail(envelope, type, not new)

    async def _kind(self, mail_id: UUID) -> MailKind | None:
        """Of an event that does not tell it yet; None when the mail is not wanted any more either."""
        mail = await self._directory.find_mail(mail_id)
        return mail.kind if mail else None


class InboxService:
    def __init__(self, callers: Callers, notifications: NotificationRepository) -> None:
        self._callers, self._notifications = callers, notifications

    async def mark_read(self, principal: Principal, recipient_id: UUID, mark: ReadMark) -> int:
        """How many were unread until now. An admin may see somebody's list, and so learns why this is refused."""
        if principal.id != recipient_id:
            raise Forbidden if principal.role == Role.ADMIN else NotFound
        await self._callers.check(principal)
        return await self._notifications.mark_read(recipient_id, None if mark.ids is UNSET else mark.ids)


def _material(envelope: Envelope[Any]) -> Document:
    """What a notification that leaves the app is made of when it leaves."""
    return {
        "event": events.encode(envelope.event).decode(),
        "requestId": envelope.request_id,
        "traceparent": envelope.traceparent,
    }


def _written(event: AppointmentEvent, recipient: UserState, other: UserState, channel: Channel) -> Notification:
    """In the app it has arrived by being stored. The text of another one is made again when it leaves."""
    now = datetime.now(UTC)
    arrived = channel is Channel.IN_APP
    return Notification(
        id=uuid7(),
        recipient_id=recipient.id,
        channel=channel,
        type=_TYPES[type(event)],
        appointment_id=event.appointment_id,
        patient_id=event.patient_id,
        doctor_id=event.doctor_id,
        message=render(event, recipient, other),
        status=NotificationStatus.SENT if arrived else NotificationStatus.PENDING,
        created_at=now,
        sent_at=now if arrived else None,
        read_at=None,
        attempts=1 if arrived else 0,
    )
