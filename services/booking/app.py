"""The composition root of the booking service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.booking.appointments.controllers import AppointmentController
from services.booking.appointments.internal import future_appointments_handlers
from services.booking.appointments.reads import AppointmentReads
from services.booking.appointments.service import BookingService
from services.booking.appointments.system_cancellations import SystemCancellations
from services.booking.consumers import UserConsumer
from services.booking.dead_letters.repository import DeadLetterRepository
from services.booking.directory.ended_sessions import EndedSessionRepository
from services.booking.directory.repository import UserRepository
from services.booking.directory.service import Directory
from services.booking.directory.token_keys import TokenKeyRepository
from services.booking.errors import CONSTRAINTS
from services.booking.idempotency import forget_old_keys
from services.booking.settings import Settings
from services.booking.time.claims import TimeClaims
from services.contracts.enums import Role
from services.contracts.events import UserEvent, decode_user_event
from services.contracts.streams import APPOINTMENTS, USERS
from services.kit.auth import TokenVerifier
from services.kit.errors import Unavailable
from services.kit.health import Health, RedisCheck
from services.kit.http.access_audit import AccessAudit, audit_handler
from services.kit.http.service import VERSION, Service, constant
from services.kit.internal import InternalClient, PublishedDocument
from services.kit.metrics import create_registry
from services.kit.postgres.database import Database
from services.kit.postgres.migrations import check_schema
from services.kit.postgres.relay import Relay
from services.kit.quotas import Quota, SharedQuotas
from services.kit.streams.consumer import Consumer
from services.kit.streams.events import EventMetrics
from services.kit.streams.signatures import SignatureVerifier
from services.kit.tasks import Supervisor, every
from services.kit.trail.chain import SEAL_SECONDS
from services.kit.trail.seals import Sealer
from services.kit.trail.tables import AuditTrail

MIGRATIONS = Path(__file__).with_name("migrations")
_DESCRIPTION = "Appointments: no slot is booked twice, and no acknowledged booking is lost."
_UNANSWERED_SECONDS = 20.0
_FORGET_SECONDS = 600.0


def create(settings: Settings) -> Service:
    """Opens nothing: connections are made when the service runs, to whatever is there by then."""
    registry = create_registry()
    requests = Quota("requests", settings.user_requests_per_minute, 60)
    bookings = Quota("bookings", settings.patient_bookings_per_hour, 3600)
    writes = Quota("writes", settings.appointment_writes_per_hour, 3600)
    database = Database(settings.booking_database_url, registry=registry, constraints=CONSTRAINTS)
    redis = RedisCheck(settings.redis_url)
    auth = InternalClient(settings.auth_internal_url, settings.booking_to_auth_token, settings.internal_authority_file)
    public_keys = PublishedDocument(settings.jwks_url, settings.internal_authority_file)

    relay = Relay(
        database_url=settings.booking_database_url,
        redis_url=settings.redis_url,
        stream=APPOINTMENTS.name,
        groups=APPOINTMENTS.groups,
        registry=registry,
    )

    appointments = AppointmentReads(database)
    directory = Directory(UserRepository(database), auth)
    claims = TimeClaims(database, registry)
    booking = BookingService(claims, directory, bookings, writes, settings, events_committed=relay.wake)
    token_keys = TokenKeyRepository(database)
    verifier = TokenVerifier(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        fetch=public_keys.fetch,
        store=token_keys,
    )
    trail = AuditTrail(database)
    supervisor = Supervisor(registry)
    supervisor.add("token-keys", verifier.refreshing())
    supervisor.add("relay", relay.run)
    supervisor.add(
        "users", _consumer(settings, UserConsumer(database), DeadLetterRepository(database), verifier, registry).run
    )
    supervisor.add("unanswered", every(_UNANSWERED_SECONDS, SystemCancellations(database).cancel_unanswered))
    supervisor.add("idempotency-keys", every(_FORGET_SECONDS, lambda: forget_old_keys(database)))
    supervisor.add("revoked-sessions", every(_FORGET_SECONDS, EndedSessionRepository(database).forget_expired))

    supervisor.add("audit seals", every(SEAL_SECONDS, Sealer(database, registry).seal))

    async def check_store() -> None:
        await check_schema(database, MIGRATIONS)

    supervisor.add("quotas", SharedQuotas("booking", settings.redis_url, registry, requests, bookings, writes).run)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        await database.open()
        supervisor.start()
        try:
            yield
        finally:
            await supervisor.stop()
            await public_keys.close()
            await auth.close()
            await redis.close()
            await database.close()

    return Service(
        "booking",
        title="Booking",
        version=VERSION,
        description=_DESCRIPTION,
        settings=settings,
        registry=registry,
        verifier=verifier,
        health=Health(
            "booking",
            VERSION,
            registry,
            essential={"postgres": check_store},
            others={"redis": redis, "tasks": supervisor.check},
        ),
        route_handlers=[
            AppointmentController,
            audit_handler("/api/appointments/audit", trail, operation_id="readAppointmentAudit", reader=Role.ADMIN),
        ],
        internal_handlers=future_appointments_handlers(appointments, settings.auth_to_booking_token),
        dependencies={"booking": constant(booking), "appointments": constant(appointments)},
        audit=AccessAudit(trail.add, reader=Role.ADMIN),
        lifespan=lifespan,
        quota=requests,
    )


def _consumer(
    settings: Settings,
    users: UserConsumer,
    dead_letters: DeadLetterRepository,
    verifier: TokenVerifier,
    registry: CollectorRegistry,
) -> Consumer[UserEvent]:
    return Consumer(
        redis_url=settings.redis_url,
        stream=USERS.name,
        group="booking",
        decode=decode_user_event,
        handle=users.handle,
        dead_letter=dead_letters.add,
        is_outage=lambda error: isinstance(error, Unavailable),
        metrics=EventMetrics(registry),
        check=SignatureVerifier(USERS.name, verifier.find_key).check,
    )
