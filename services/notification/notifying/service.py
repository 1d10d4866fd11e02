import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from uuid_utils.compat import uuid7

from services.contracts import events, streams
from services.contracts.enums import MailKind
from services.contracts.events import AppointmentEvent, MailRequested, UserEvent
from services.kit.metrics import SECONDS
from services.kit.streams.events import Envelope, EventMetrics
from services.notification.directory.repository import AppointmentRepository
from services.notification.directory.service import Directory
from services.notification.notifying.repository import NotificationRepository
from services.notification.notifying.rules import APPOINTMENT_TYPES, MAIL_TYPES, recipients
from services.notification.notifying.schemas import Channel, NewNotification, NotificationType

log = structlog.get_logger("notifying")


class NotifyingMetrics:
    def __init__(self, registry: CollectorRegistry, events: EventMetrics) -> None:
        self._events = events
        self._added = Counter(
            "notifications_added_total", "Notifications stored", ["type", "channel"], registry=registry
        )
        self._delay = Histogram(
            "notification_delay_seconds",
            "Seconds from an event's transaction, by its writer's clock, until its notifications are stored",
            buckets=SECONDS,
            registry=registry,
        )
        self.unsendable = Counter(
            "notification_mails_unsendable_total",
            "Mails with a link that were requested while no mail server is configured",
            registry=registry,
        )

    def observe(
        self, stream: streams.Stream, envelope: Envelope[Any], wanted: int, added: Sequence[NewNotification]
    ) -> None:
        for notification in added:
            self._added.labels(notification.type, notification.channel).inc()
        if len(added) < wanted:
            self._events.duplicates.labels(stream.name).inc()
        else:
            self._delay.observe((datetime.now(UTC) - envelope.created_at).total_seconds())


class NotifyingService:
    """Notify the patient and the doctor of changes to an appointment, in each of `channels`.

    `stored` is called with the new notifications.
    """

    def __init__(
        self,
        directory: Directory,
        appointments: AppointmentRepository,
        notifications: NotificationRepository,
        metrics: NotifyingMetrics,
        channels: Sequence[Channel],
        stored: Callable[[Sequence[NewNotification]], None],
    ) -> None:
        self._directory, self._appointments, self._notifications = directory, appointments, notifications
        self._metrics, self._channels, self._stored = metrics, channels, stored

    async def notify(self, envelope: Envelope[AppointmentEvent]) -> None:
        """Store the notifications of one event. Events may arrive several times and in any order.

        Afterwards the directory's projection contains both users, whose names the text needs.
        """
        event = envelope.event
        people = await self._directory.get(event.patient_id, event.doctor_id)
        wanted = [
            _new(
                envelope,
                APPOINTMENT_TYPES[type(event)],
                channel,
                id=uuid7(),
                recipient_id=recipient_id,
                appointment_id=event.appointment_id,
                patient_id=event.patient_id,
                doctor_id=event.doctor_id,
            )
            for recipient_id, channel in recipients(people, self._channels)
        ]
        _, added = await asyncio.gather(self._appointments.put(event), self._notifications.add(wanted))
        self._stored(added)
        self._metrics.observe(streams.APPOINTMENTS, envelope, len(wanted), added)


class MailingService:
    """Store the mails that auth requests; `stored` is called with the new ones.

    Their content is not stored: the e-mail worker requests it from auth when it sends.
    """

    def __init__(
        self,
        directory: Directory,
        notifications: NotificationRepository,
        metrics: NotifyingMetrics,
        channels: Sequence[Channel],
        stored: Callable[[Sequence[NewNotification]], None],
    ) -> None:
        self._directory, self._notifications, self._metrics = directory, notifications, metrics
        self._has_mail_server, self._stored = Channel.EMAIL in channels, stored
        self._warned = False

    async def request(self, envelope: Envelope[UserEvent], event: MailRequested) -> None:
        """Store one mail. Its event may arrive several times."""
        if not self._has_mail_server:
            self._metrics.unsendable.inc()
            if not self._warned:
                self._warned = True
                log.warning("mails with links cannot be sent: SMTP_URL is not set")
            return
        kind = event.kind or await self._kind(event.mail_id)
        if kind is None:
            return
        mail = _new(envelope, MAIL_TYPES[kind], Channel.EMAIL, id=envelope.id)
        added = await self._notifications.add([mail])
        self._stored(added)
        self._metrics.observe(streams.USERS, envelope, 1, added)

    async def _kind(self, mail_id: UUID) -> MailKind | None:
        """Ask auth, for an event written before events had a kind; None when auth no longer wants the mail."""
        mail = await self._directory.find_mail(mail_id)
        return mail.kind if mail else None


def _new(envelope: Envelope[Any], type: NotificationType, channel: Channel, **fields: Any) -> NewNotification:
    return NewNotification(
        event_id=envelope.id,
        channel=channel,
        type=type,
        event=events.encode(envelope.event).decode(),
        created_at=datetime.now(UTC),
        request_id=envelope.request_id,
        traceparent=envelope.traceparent,
        **fields,
    )
