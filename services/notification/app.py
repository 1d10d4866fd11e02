"""The composition root of the notification service."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from redis.asyncio import Redis

from services.contracts.enums import Role
from services.contracts.events import decode_appointment_event, decode_user_event
from services.contracts.streams import APPOINTMENTS, USERS
from services.kit.addresses import MalformedAddress
from services.kit.errors import Unavailable
from services.kit.http.service import Service
from services.kit.internal import PublishedDocument
from services.kit.settings import SettingsError
from services.kit.signed_tokens import SignedTokens
from services.kit.streams.consumer import Consumer
from services.kit.streams.events import EventMetrics
from services.kit.streams.signatures import SignatureVerifier
from services.kit.subkeys import Subkeys
from services.kit.tasks import every
from services.kit.trail.chain import SEAL_SECONDS
from services.notification.audit.repository import AuditTrail, Chain
from services.notification.consumers import UserConsumer
from services.notification.dead_letters.controllers import DeadLetterController
from services.notification.dead_letters.repository import DeadLetterRepository
from services.notification.dead_letters.service import Handler, ReplayService
from services.notification.delivery.controllers import DeliveryController
from services.notification.delivery.email.composer import Email, EmailComposer
from services.notification.delivery.email.repository import MailAllowances
from services.notification.delivery.email.sender import EmailSender
from services.notification.delivery.email.smtp import SmtpConnections
from services.notification.delivery.repository import DeliveryRepository
from services.notification.delivery.worker import DeliveryMetrics, DeliveryWorker
from services.notification.directory.callers import Callers
from services.notification.directory.ended_sessions import EndedSessionRepository
from services.notification.directory.repository import AppointmentRepository, UserRepository
from services.notification.directory.service import Directory
from services.notification.directory.token_keys import TokenKeyRepository
from services.notification.inbox.controllers import InboxController
from services.notification.inbox.repository import InboxRepository
from services.notification.inbox.service import InboxService
from services.notification.indexes import INDEXES
from services.notification.live.announcements import AnnouncementReader, Announcer
from services.notification.live.controllers import StreamController
from services.notification.live.repository import OpenStreamRepository, TicketRepository, live_client
from services.notification.live.service import LEASE_SECONDS, LiveService
from services.notification.live.stream import LiveMetrics
from services.notification.live.subscriptions import Subscriptions
from services.notification.notifying.repository import NotificationRepository
from services.notification.notifying.schemas import Channel, NewNotification
from services.notification.notifying.service import MailingService, NotifyingMetrics, NotifyingService
from services.notification.repository import Store
from services.notification.settings import Settings

_DESCRIPTION = "Tells users about their appointments: once per event, user and channel."


def create(settings: Settings) -> Service:
    service = Service("notification", settings, description=_DESCRIPTION)
    registry = service.registry
    store = Store(settings.mongodb_url, INDEXES)
    service.on_close(partial(asyncio.to_thread, store.close))  # closing talks to the server, which may be frozen
    service.health.add("mongodb", store.check, essential=True)
    trail = AuditTrail(store)
    service.audit(trail, "/api/notifications/audit", operation_id="readNotificationAudit", reader=Role.ADMIN)
    service.when_ready("audit seals", every(SEAL_SECONDS, Chain(store, registry).seal))
    keys = service.closing(PublishedDocument(settings.jwks_url, settings.internal_authority_file))
    verifier = service.verify_tokens(keys.fetch, TokenKeyRepository(store))

    users = UserRepository(store)
    inbox_repository, deliveries = InboxRepository(store, users), DeliveryRepository(store)
    letters = DeadLetterRepository(store)
    callers = Callers(users, EndedSessionRepository(store))
    directory = Directory(users, service.neighbour(settings.auth_internal_url, settings.notification_to_auth_token))
    live_redis = live_client(settings.redis_url)
    service.on_close(live_redis.aclose)
    announcer = service.closing(Announcer(live_redis, registry))
    workers = _workers(service, settings, store, directory, deliveries)

    def wake() -> None:
        for worker in workers.values():
            worker.wake()

    def stored(added: Sequence[NewNotification]) -> None:
        announcer.announce(added)
        wake()

    events = EventMetrics(registry)
    notifications, metrics = NotificationRepository(store), NotifyingMetrics(registry, events)
    channels = [Channel.IN_APP, *workers]
    mailing = MailingService(directory, notifications, metrics, channels, stored)
    notifying = NotifyingService(directory, AppointmentRepository(store), notifications, metrics, channels, stored)
    check = SignatureVerifier(USERS.name, verifier.find_key).check
    handlers = {
        USERS.name: Handler(decode_user_event, UserConsumer(store, mailing).handle, check),
        APPOINTMENTS.name: Handler(decode_appointment_event, notifying.notify),
    }
    for task, stream in (("users", USERS.name), ("appointments", APPOINTMENTS.name)):
        service.when_ready(task, _consumer(settings, stream, handlers[stream], letters, events).run)
    service.mount(
        [InboxController, StreamController, DeliveryController, DeadLetterController],
        dependencies={
            "inbox": inbox_repository,
            "inbox_service": InboxService(callers, inbox_repository),
            "live": _live(service, settings, callers, inbox_repository, live_redis),
            "deliveries": deliveries,
            "replays": ReplayService(callers, letters, deliveries, trail, handlers, workers, wake),
        },
    )
    return service


def _consumer(
    settings: Settings, stream: str, handler: Handler, letters: DeadLetterRepository, events: EventMetrics
) -> Consumer[Any]:
    return Consumer(
        redis_url=settings.redis_url,
        stream=stream,
        group="notification",
        decode=handler.decode,
        handle=handler.handle,
        check=handler.check,
        dead_letter=letters.add,
        is_outage=lambda error: isinstance(error, Unavailable),
        metrics=events,
    )


def _live(
    service: Service, settings: Settings, callers: Callers, inbox_repository: InboxRepository, redis: Redis
) -> LiveService:
    subkeys = Subkeys(settings.notification_secret_key, settings.notification_previous_secret_key)
    subscriptions = Subscriptions()
    live = LiveService(
        callers,
        inbox_repository,
        TicketRepository(redis, SignedTokens(subkeys.of("stream tickets"))),
        OpenStreamRepository(redis, LEASE_SECONDS),
        subscriptions,
        LiveMetrics(service.registry, subscriptions),
        service.health.draining,
    )
    announcements = AnnouncementReader(settings.redis_url, subscriptions, service.registry)
    service.tasks.add("announcements", announcements.run)
    service.tasks.add("stream-leases", every(LEASE_SECONDS / 3, live.renew_leases))
    return live


def _workers(
    service: Service, settings: Settings, store: Store, directory: Directory, deliveries: DeliveryRepository
) -> dict[Channel, DeliveryWorker[Email]]:
    """Return the worker of each channel that is configured, and add its task."""
    if settings.smtp_url is None:
        return {}
    sender = _email_sender(settings, settings.smtp_url, directory, store)
    service.health.add("smtp", sender.check)
    worker = DeliveryWorker(
        deliveries, sender, DeliveryMetrics(service.registry), send_seconds=settings.smtp_timeout_seconds
    )
    service.when_ready("delivery-email", worker.run)
    return {Channel.EMAIL: worker}


def _email_sender(settings: Settings, url: str, directory: Directory, store: Store) -> EmailSender:
    """Raise `SettingsError` where a setting is missing or malformed."""
    if settings.mail_from is None:
        raise SettingsError("MAIL_FROM is missing: expected the sender's address, since SMTP_URL is set")
    allowances = MailAllowances(
        store, per_recipient=settings.mails_per_recipient_and_hour, per_pair=settings.mails_per_pair_and_hour
    )
    composer = EmailComposer(directory, allowances, settings.link_base_url)
    connections = SmtpConnections.of(url, settings.smtp_timeout_seconds, requires_tls=settings.smtp_tls == "required")
    try:
        return EmailSender(composer, connections, settings.mail_from, settings.smtp_timeout_seconds)
    except MalformedAddress as error:
        raise SettingsError(f"MAIL_FROM is malformed: {error}") from None
