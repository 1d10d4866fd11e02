"""The composition root of the notification service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from services.contracts.events import (
    MailRequested,
    SessionRevoked,
    UserEvent,
    decode_appointment_event,
    decode_user_event,
)
from services.contracts.streams import APPOINTMENTS, USERS
from services.kit.app import VERSION, Service, given
from services.kit.auth import TokenVerifier
from services.kit.consumer import Consumer
from services.kit.errors import Unavailable
from services.kit.events import Envelope, EventMetrics
from services.kit.health import Health, RedisCheck
from services.kit.internal import InternalClient, PublishedDocument
from services.kit.metrics import create_registry
from services.kit.tasks import Supervisor
from services.notification.directory.repository import (
    REVOKED_SESSION_INDEXES,
    AppointmentRepository,
    RevokedSessionRepository,
    UserRepository,
)
from services.notification.directory.service import Directory
from services.notification.inbox import repository as inbox
from services.notification.inbox.controllers import InboxController
from services.notification.inbox.repository import NotificationRepository
from services.notification.inbox.service import InboxService, NotifyingMetrics, NotifyingService
from services.notification.repository import (
    DEAD_LETTER_INDEXES,
    DeadLetterRepository,
    Store,
    TokenKeyRepository,
)
from services.notification.settings import Settings

INDEXES = {
    "notifications": inbox.INDEXES,
    "dead_letters": DEAD_LETTER_INDEXES,
    "revoked_sessions": REVOKED_SESSION_INDEXES,
}
_DESCRIPTION = "What people are told about their appointments: once per event, person and channel."


def create(settings: Settings) -> Service:
    """Opens nothing: connections are made when the service runs, to whatever is there by then."""
    registry = create_registry()
    store = Store(settings.mongodb_url, INDEXES)
    redis = RedisCheck(settings.redis_url)
    auth = InternalClient(settings.auth_internal_url, settings.internal_token)
    public_keys = PublishedDocument(settings.jwks_url)

    users = UserRepository(store)
    notifications = NotificationRepository(store)
    revoked_sessions = RevokedSessionRepository(store)
    inbox_service = InboxService(users, revoked_sessions, notifications)
    events = EventMetrics(registry)
    notifying = NotifyingService(
        Directory(users, auth), AppointmentRepository(store), notifications, NotifyingMetrics(registry, events)
    )
    token_keys = TokenKeyRepository(store)
    verifier = TokenVerifier(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        fetch=public_keys.fetch,
        load=token_keys.load,
        save=token_keys.save,
    )
    consumer = partial(
        Consumer,
        redis_url=settings.redis_url,
        group="notification",
        dead_letter=DeadLetterRepository(store).add,
        is_outage=lambda error: isinstance(error, Unavailable),
        metrics=events,
    )

    async def remember(envelope: Envelope[UserEvent]) -> None:
        match envelope.event:
            case SessionRevoked() as event:
                await revoked_sessions.put(event)
            case MailRequested():
                pass  # nothing sends mails yet
            case event:
                await users.put(event.user)

    user_events = consumer(stream=USERS.name, decode=decode_user_event, handle=remember)
    appointment_events = consumer(stream=APPOINTMENTS.name, decode=decode_appointment_event, handle=notifying.notify)

    supervisor = Supervisor(registry)
    supervisor.add("token-keys", verifier.refreshing())
    supervisor.add("indexes", store.keep_indexes)
    supervisor.add("users", store.once_prepared(user_events.run))
    supervisor.add("appointments", store.once_prepared(appointment_events.run))

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        supervisor.start()
        try:
            yield
        finally:
            await supervisor.stop()
            await public_keys.close()
            await auth.close()
            await redis.close()
            store.close()

    return Service(
        "notification",
        title="Notification",
        version=VERSION,
        description=_DESCRIPTION,
        settings=settings,
        registry=registry,
        verifier=verifier,
        health=Health(
            "notification",
            VERSION,
            registry,
            essential={"mongodb": store.check},
            others={"redis": redis, "tasks": supervisor.check},
        ),
        route_handlers=[InboxController],
        dependencies={"notifications": given(notifications), "inbox": given(inbox_service)},
        lifespan=lifespan,
    )
