"""The composition root of the notification service."""

import asyncio
from collections.abc import Sequence
from functools import partial

from services.contracts.enums import Role
from services.contracts.events import (
    MailRequested,
    SessionRevoked,
    UserErased,
    UserEvent,
    decode_appointment_event,
    decode_user_event,
)
from services.contracts.streams import APPOINTMENTS, USERS
from services.kit.errors import Unavailable
from services.kit.http.service import Service
from services.kit.internal import PublishedDocument
from services.kit.signed_tokens import SignedTokens
from services.kit.streams.consumer import Consumer
from services.kit.streams.events import Envelope, EventMetrics
from services.kit.streams.signatures import SignatureVerifier
from services.kit.subkeys import Subkeys
from services.kit.tasks import every
from services.kit.trail.chain import SEAL_SECONDS
from services.notification.audit import repository as audit
from services.notification.audit.repository import AuditTrail, Chain
from services.notification.dead_letters import repository as dead_letters
from services.notification.dead_letters.controllers import DeadLetterController
from services.notification.dead_letters.repository import DeadLetterRepository
from services.notification.dead_letters.service import Handler, ReplayService
from services.notification.delivery import repository as delivery
from services.notification.delivery.controllers import DeliveryController
from services.notification.delivery.email.composer import Correspondence
from services.notification.delivery.email.sender import create_mailer
from services.notification.delivery.repository import DeliveryRepository
from services.notification.delivery.worker import DeliveryMetrics, EmailWorker
from services.notification.directory.callers import Callers
from services.notification.directory.repository import (
    REVOKED_SESSION_INDEXES,
    AppointmentRepository,
    RevokedSessionRepository,
    UserRepository,
)
from services.notification.directory.service import Directory
from services.notification.erasure.repository import APPOINTMENT_INDEXES, ErasureRepository
from services.notification.erasure.service import ErasureService
from services.notification.inbox import repository as inbox
from services.notification.inbox.controllers import InboxController
from services.notification.inbox.repository import NotificationRepository
from services.notification.inbox.schemas import Channel, Notification
from services.notification.live.announcements import AnnouncementReader, Announcer
from services.notification.live.controllers import StreamController
from services.notification.live.repository import OpenStreamRepository, TicketRepository, live_client
from services.notification.live.service import LEASE_SECONDS, LiveService
from services.notification.live.stream import LiveMetrics
from services.notification.live.subscriptions import Subscriptions
from services.notification.notifying.service import InboxService, MailingService, NotifyingMetrics, NotifyingService
from services.notification.repository import Store, TokenKeyRepository
from services.notification.settings import Settings

INDEXES = {
    "notifications": [*inbox.INDEXES, *delivery.INDEXES],
    "dead_letters": dead_letters.INDEXES,
    "revoked_sessions": REVOKED_SESSION_INDEXES,
    "audit_log": audit.INDEXES,
    "audit_seals": audit.SEAL_INDEXES,
    "appointments": APPOINTMENT_INDEXES,
}
_DESCRIPTION = "What people are told about their appointments: once per event, person and channel."


def create(settings: Settings) -> Service:
    service = Service("notification", settings, description=_DESCRIPTION)
    registry, tasks = service.registry, service.tasks
    store = Store(settings.mongodb_url, INDEXES)
    service.on_close(partial(asyncio.to_thread, store.close))  # closing talks to the server, which may be frozen
    service.health.add("mongodb", store.check, essential=True)
    keys = service.closing(PublishedDocument(settings.jwks_url, settings.internal_authority_file))
    verifier = service.verify_tokens(keys.fetch, TokenKeyRepository(store))
    trail = AuditTrail(store)
    service.audit(trail, "/api/notifications/audit", operation_id="readNotificationAudit", reader=Role.ADMIN)
    auth = service.neighbour(settings.auth_internal_url, settings.notification_to_auth_token)

    users = UserRepository(store)
    notifications = NotificationRepository(store)
    revoked_sessions = RevokedSessionRepository(store)
    callers = Callers(users, revoked_sessions)
    subkeys = Subkeys(settings.notification_secret_key, settings.notification_previous_secret_key)
    live_redis = live_client(settings.redis_url)
    service.on_close(live_redis.aclose)
    subscriptions = Subscriptions()
    announcer = service.closing(Announcer(live_redis, registry))
    events = EventMetrics(registry)
    directory = Directory(users, auth)
    deliveries = DeliveryRepository(store)
    letters = DeadLetterRepository(store)
    workers: dict[Channel, EmailWorker] = {}
    if settings.smtp_url is not None:
        mailer = create_mailer(settings.smtp_url, settings.mail_from, settings.smtp_timeout_seconds, settings.smtp_tls)
        service.health.add("smtp", mailer.check)
        workers[Channel.EMAIL] = EmailWorker(
            deliveries,
            Correspondence(
                directory,
                deliveries,
                settings.link_base_url,
                mails_per_pair_and_hour=settings.mails_per_pair_and_hour,
            ),
            mailer,
            DeliveryMetrics(registry),
            send_seconds=settings.smtp_timeout_seconds,
        )

    def wake() -> None:
        for worker in workers.values():
            worker.wake()

    def stored(added: Sequence[Notification]) -> None:
        announcer.announce(added)
        wake()

    notifying_metrics = NotifyingMetrics(registry, events)
    erasure = ErasureService(users, ErasureRepository(store))
    notifying = NotifyingService(
        directory,
        AppointmentRepository(store),
        notifications,
        notifying_metrics,
        erasure,
        channels=[Channel.IN_APP, *workers],
        stored=stored,
    )
    mailing = MailingService(
        directory, notifications, notifying_metrics, has_mail_server=Channel.EMAIL in workers, wake=wake
    )
    consumer = partial(
        Consumer,
        redis_url=settings.redis_url,
        group="notification",
        dead_letter=letters.add,
        is_outage=lambda error: isinstance(error, Unavailable),
        metrics=events,
    )

    async def remember(envelope: Envelope[UserEvent]) -> None:
        match envelope.event:
            case SessionRevoked() as event:
                await revoked_sessions.put(event)
            case UserErased() as event:
                await erasure.forget(event.user)
            case MailRequested() as event:
                await mailing.request(envelope, event)
            case event:
                await users.put(event.user)

    check_signature = SignatureVerifier(USERS.name, verifier.find_key).check
    user_events = consumer(stream=USERS.name, decode=decode_user_event, handle=remember, check=check_signature)
    appointment_events = consumer(stream=APPOINTMENTS.name, decode=decode_appointment_event, handle=notifying.notify)
    handlers = {
        USERS.name: Handler(decode_user_event, remember, check_signature),
        APPOINTMENTS.name: Handler(decode_appointment_event, notifying.notify),
    }

    tasks.add("indexes", store.keep_indexes)
    tasks.add("users", store.once_prepared(user_events.run))
    tasks.add("appointments", store.once_prepared(appointment_events.run))
    for channel, worker in workers.items():
        tasks.add(f"delivery-{channel.lower()}", store.once_prepared(worker.run))

    tasks.add("audit seals", store.once_prepared(every(SEAL_SECONDS, Chain(store, registry).seal)))
    tasks.add("announcements", AnnouncementReader(settings.redis_url, subscriptions, registry).run)
    live = LiveService(
        callers,
        notifications,
        TicketRepository(live_redis, SignedTokens(subkeys.of("stream tickets"))),
        OpenStreamRepository(live_redis, LEASE_SECONDS),
        subscriptions,
        LiveMetrics(registry, subscriptions),
        service.health.draining,
    )
    tasks.add("stream-leases", every(LEASE_SECONDS / 3, live.renew_leases))
    service.mount(
        [InboxController, StreamController, DeliveryController, DeadLetterController],
        dependencies={
            "notifications": notifications,
            "inbox": InboxService(callers, notifications),
            "live": live,
            "deliveries": deliveries,
            "replays": ReplayService(callers, letters, deliveries, trail, handlers, workers, wake),
        },
    )
    return service
