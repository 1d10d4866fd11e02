"""The composition root of the booking service."""

from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.booking.appointment_types.controllers import AppointmentTypeController
from services.booking.appointment_types.reads import AppointmentTypeReads
from services.booking.appointment_types.service import AppointmentTypeService
from services.booking.appointments.affected import settle_affected
from services.booking.appointments.controllers import AppointmentController
from services.booking.appointments.internal import future_appointments_handlers
from services.booking.appointments.reads import AppointmentReads
from services.booking.appointments.service import BookingService
from services.booking.appointments.system_cancellations import SystemCancellations
from services.booking.availability.controllers import AvailabilityController
from services.booking.availability.reads import AvailabilityReads
from services.booking.availability.service import AvailabilityService
from services.booking.availability.versions import ScheduleVersions
from services.booking.consumers import UserConsumer
from services.booking.dead_letters.repository import DeadLetterRepository
from services.booking.directory.repository import UserRepository
from services.booking.directory.service import Directory
from services.booking.directory.token_keys import TokenKeyRepository
from services.booking.errors import CONSTRAINTS
from services.booking.holds.controllers import HoldController
from services.booking.holds.reads import HoldReads
from services.booking.holds.service import HoldService
from services.booking.models.messages import EXPIRING
from services.booking.schedule_exceptions.controllers import ScheduleExceptionController
from services.booking.schedule_exceptions.reads import ScheduleExceptionReads
from services.booking.schedule_exceptions.service import ScheduleExceptionService
from services.booking.settings import Settings
from services.booking.slots.controllers import SlotController
from services.booking.slots.reads import SlotReads
from services.booking.time.claims import TimeClaims
from services.contracts.enums import Role
from services.contracts.events import UserEvent, decode_user_event
from services.contracts.streams import APPOINTMENTS, USERS
from services.kit.auth import TokenVerifier
from services.kit.errors import Unavailable
from services.kit.http.service import Service
from services.kit.internal import PublishedDocument
from services.kit.postgres.clean_up import CleanUp
from services.kit.postgres.database import Database
from services.kit.postgres.migrations import check_schema
from services.kit.postgres.relay import Relay
from services.kit.streams.consumer import Consumer
from services.kit.streams.events import EventMetrics
from services.kit.streams.signatures import SignatureVerifier
from services.kit.tasks import every
from services.kit.trail.chain import SEAL_SECONDS
from services.kit.trail.seals import Sealer
from services.kit.trail.tables import AuditTrail

MIGRATIONS = Path(__file__).with_name("migrations")
_DESCRIPTION = "Appointments: no slot is booked twice, and no acknowledged booking is lost."
_UNANSWERED_SECONDS = 20.0
_CONTROLLERS = [
    AppointmentController,
    AppointmentTypeController,
    AvailabilityController,
    ScheduleExceptionController,
    SlotController,
    HoldController,
]


def create(settings: Settings) -> Service:
    service = Service("booking", settings, description=_DESCRIPTION)
    registry = service.registry
    database = service.opening(Database(settings.booking_database_url, registry=registry, constraints=CONSTRAINTS))
    service.health.add("postgres", partial(check_schema, database, MIGRATIONS), essential=True)
    keys = service.closing(PublishedDocument(settings.jwks_url, settings.internal_authority_file))
    verifier = service.verify_tokens(keys.fetch, TokenKeyRepository(database))
    trail = AuditTrail(database)
    service.audit(trail, "/api/appointments/audit", operation_id="readAppointmentAudit", reader=Role.ADMIN)
    relay = Relay(
        database_url=settings.booking_database_url,
        redis_url=settings.redis_url,
        stream=APPOINTMENTS.name,
        groups=APPOINTMENTS.groups,
        registry=registry,
    )
    service.when_ready("relay", relay.run)
    service.when_ready("users", _user_events(settings, database, registry, verifier).run)
    service.when_ready("unanswered", every(_UNANSWERED_SECONDS, SystemCancellations(database).cancel_unanswered))
    service.when_ready("clean-up", CleanUp(database, registry, *EXPIRING).run)
    service.when_ready("audit seals", every(SEAL_SECONDS, Sealer(database, registry).seal))
    appointments = AppointmentReads(database)
    auth = service.neighbour(settings.auth_internal_url, settings.booking_to_auth_token)
    directory = Directory(UserRepository(database), auth)
    writes = service.quota("writes", settings.appointment_writes_per_hour, 3600)
    versions, claims = ScheduleVersions(), TimeClaims(database, registry)
    booking = BookingService(
        database,
        claims,
        versions,
        directory,
        service.quota("bookings", settings.patient_bookings_per_hour, 3600),
        writes,
        settings,
        events_committed=relay.wake,
    )
    service.mount(
        _CONTROLLERS,
        internal=future_appointments_handlers(appointments, settings.auth_to_booking_token),
        dependencies={
            "booking": booking,
            "appointments": appointments,
            "availability": AvailabilityService(database, directory, writes, settle_affected, relay.wake),
            "exceptions": ScheduleExceptionService(database, directory, writes, settle_affected, relay.wake),
            "exceptions_read": ScheduleExceptionReads(database),
            "schedules": AvailabilityReads(database),
            "appointment_types": AppointmentTypeService(database, directory, writes),
            "types": AppointmentTypeReads(database),
            "slots": SlotReads(database, versions),
            "holds": HoldService(database, claims, versions, directory, writes, settings),
            "hold_reads": HoldReads(database),
        },
    )
    return service


def _user_events(
    settings: Settings, database: Database, registry: CollectorRegistry, verifier: TokenVerifier
) -> Consumer[UserEvent]:
    return Consumer(
        redis_url=settings.redis_url,
        stream=USERS.name,
        group="booking",
        decode=decode_user_event,
        handle=UserConsumer(database).handle,
        dead_letter=DeadLetterRepository(database).add,
        is_outage=lambda error: isinstance(error, Unavailable),
        metrics=EventMetrics(registry),
        check=SignatureVerifier(USERS.name, verifier.find_key).check,
    )
