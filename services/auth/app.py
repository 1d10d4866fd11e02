"""The composition root of the auth service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import structlog

from services.auth.accounts.service import AccountService
from services.auth.accounts.upcoming import UpcomingAppointments
from services.auth.credentials.controllers import CredentialController, internal_mail_handler
from services.auth.credentials.service import CredentialService
from services.auth.database import Transactions
from services.auth.doctors.controllers import DoctorController
from services.auth.doctors.reads import DoctorReads
from services.auth.documents import document_index
from services.auth.errors import CONSTRAINTS
from services.auth.mails.links import LinkTokens
from services.auth.mails.reads import MailReads
from services.auth.mfa.codes import FactorSecrets
from services.auth.mfa.controllers import MfaController
from services.auth.mfa.service import MfaService
from services.auth.patients.controllers import PatientController
from services.auth.patients.reads import PatientReads
from services.auth.profile.controllers import ProfileController
from services.auth.profile.reads import OwnTrailReads
from services.auth.profile.service import ProfileService
from services.auth.sessions.controllers import LoginController, SessionController, internal_keys_handler
from services.auth.sessions.devices import DeviceTokens
from services.auth.sessions.keys import SigningKeys, UnreadableKeys
from services.auth.sessions.reads import SessionReads
from services.auth.sessions.service import SessionService
from services.auth.sessions.tokens import AccessTokens
from services.auth.settings import Settings
from services.auth.throttles.repository import ThrottleRepository
from services.auth.throttles.service import Throttles
from services.auth.users.controllers import internal_user_handler
from services.auth.users.current_password import CurrentPassword
from services.auth.users.passwords import Passwords
from services.auth.users.reads import UserReads
from services.contracts.enums import Role, UserStatus
from services.contracts.streams import USERS
from services.kit.auth import TokenVerifier
from services.kit.health import Health, RedisCheck
from services.kit.http.access_audit import AccessAudit, audit_handler
from services.kit.http.service import VERSION, Service, constant
from services.kit.internal import InternalClient
from services.kit.metrics import create_registry
from services.kit.postgres.database import Database
from services.kit.postgres.migrations import check_schema
from services.kit.postgres.relay import Relay
from services.kit.quotas import Quota, SharedQuotas
from services.kit.settings import SettingsError
from services.kit.subkeys import Subkeys
from services.kit.tasks import Supervisor, every
from services.kit.trail.chain import SEAL_SECONDS
from services.kit.trail.seals import Sealer
from services.kit.trail.tables import AuditTrail

log = structlog.get_logger("auth")

MIGRATIONS = Path(__file__).with_name("migrations")
_DESCRIPTION = "Accounts of patients, doctors and admins, their sessions, and the list of doctors."
_CLEAN_UP_SECONDS = 600.0


def create(settings: Settings) -> Service:
    registry = create_registry()
    requests = Quota("requests", settings.user_requests_per_minute, 60)
    database = Database(settings.auth_database_url, registry=registry, constraints=CONSTRAINTS)
    transactions = Transactions(settings.auth_database_url)
    redis = RedisCheck(settings.redis_url)
    booking = InternalClient(
        settings.booking_internal_url, settings.auth_to_booking_token, settings.internal_authority_file
    )
    signing_keys = _signing_keys(Path(settings.auth_signing_keys_file))
    passwords = Passwords(registry)
    relay = Relay(
        database_url=settings.auth_database_url,
        redis_url=settings.redis_url,
        stream=USERS.name,
        groups=USERS.groups,
        sign=signing_keys.sign,
        registry=registry,
    )
    subkeys = Subkeys(settings.auth_secret_key, settings.auth_previous_secret_key)
    throttle_rows = ThrottleRepository(database)
    throttles = Throttles(
        throttle_rows,
        subkeys.of("throttles")[0],
        registry,
        by_address=settings.address_limits,
    )
    trail = AuditTrail(database)
    mail_reads, session_reads, user_reads = MailReads(database), SessionReads(database), UserReads(database)
    current_password = CurrentPassword(user_reads, passwords, throttles)
    upcoming = UpcomingAppointments(booking)
    accounts = AccountService(
        transactions,
        passwords,
        upcoming,
        throttles,
        current_password,
        doctors_start_as=UserStatus.ACTIVE if settings.doctor_approval == "automatic" else UserStatus.PENDING,
        events_committed=relay.wake,
    )
    access_tokens = AccessTokens(
        signing_keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        seconds=settings.access_token_seconds,
    )
    mfa = MfaService(
        transactions,
        current_password,
        FactorSecrets.of(subkeys),
        throttles,
        issuer=settings.jwt_issuer,
        required_of_admins=settings.admin_mfa == "required",
        events_committed=relay.wake,
    )
    devices = DeviceTokens(subkeys.of("known devices"))
    sessions = SessionService(
        transactions,
        session_reads,
        passwords,
        access_tokens,
        devices,
        throttles,
        mfa,
        trail,
        lifetime=timedelta(days=settings.session_days),
        events_committed=relay.wake,
    )
    credentials = CredentialService(
        transactions,
        mail_reads,
        passwords,
        current_password,
        LinkTokens(subkeys.of("mailed links")),
        devices,
        throttles,
        events_committed=relay.wake,
    )
    profile = ProfileService(
        transactions,
        user_reads,
        session_reads,
        OwnTrailReads(database),
        trail,
        current_password,
        mfa,
        throttles,
        upcoming,
        events_committed=relay.wake,
    )
    verifier = _verifier(settings, signing_keys)
    supervisor = Supervisor(registry)
    supervisor.add("signing keys", verifier.refreshing())
    supervisor.add("relay", relay.run)
    supervisor.add("clean-up", every(_CLEAN_UP_SECONDS, session_reads.delete_expired))
    supervisor.add("old throttles", every(_CLEAN_UP_SECONDS, throttle_rows.delete_old))
    supervisor.add("expired mails", every(_CLEAN_UP_SECONDS, mail_reads.delete_expired))
    supervisor.add("audit seals", every(SEAL_SECONDS, Sealer(database, registry).seal))

    async def schema_is_current() -> None:
        await check_schema(database, MIGRATIONS)
        await transactions.check()

    supervisor.add("quotas", SharedQuotas("auth", settings.redis_url, registry, requests).run)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        await database.open()
        supervisor.start()
        try:
            yield
        finally:
            await supervisor.stop()
            await booking.close()
            await redis.close()
            await transactions.close()
            await database.close()

    return Service(
        "auth",
        title="Auth",
        version=VERSION,
        description=_DESCRIPTION,
        settings=settings,
        registry=registry,
        verifier=verifier,
        health=Health(
            "auth",
            VERSION,
            registry,
            essential={"postgres": schema_is_current},
            others={"redis": redis, "tasks": supervisor.check},
        ),
        route_handlers=[
            DoctorController,
            PatientController,
            ProfileController,
            LoginController,
            SessionController,
            CredentialController,
            MfaController,
            audit_handler("/api/auth/audit", trail, operation_id="readAuthAudit", reader=Role.ADMIN),
            document_index,
        ],
        internal_handlers=[
            internal_user_handler(user_reads, settings.booking_to_auth_token, settings.notification_to_auth_token),
            internal_mail_handler(credentials, settings.notification_to_auth_token),
            internal_keys_handler(signing_keys),
        ],
        dependencies={
            "accounts": constant(accounts),
            "credentials": constant(credentials),
            "doctor_reads": constant(DoctorReads(database)),
            "mfa": constant(mfa),
            "patient_reads": constant(PatientReads(database)),
            "profile": constant(profile),
            "session_reads": constant(session_reads),
            "sessions": constant(sessions),
            "signing_keys": constant(signing_keys),
            "user_reads": constant(user_reads),
        },
        audit=AccessAudit(trail.add, reader=Role.ADMIN),
        lifespan=lifespan,
        quota=requests,
    )


def _signing_keys(path: Path) -> SigningKeys:
    try:
        return SigningKeys(path)
    except UnreadableKeys as error:
        raise SettingsError(f"AUTH_SIGNING_KEYS_FILE: {error}; the command `rotate-keys` makes one") from None


def _verifier(settings: Settings, signing_keys: SigningKeys) -> TokenVerifier:
    """With the keys of this very process, of which nothing has to be stored."""

    async def fetch() -> bytes:
        return signing_keys.public_document

    return TokenVerifier(issuer=settings.jwt_issuer, audience=settings.jwt_audience, fetch=fetch)
