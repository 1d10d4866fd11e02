"""The composition root of the auth service."""

from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from services.auth.accounts.service import AccountService
from services.auth.accounts.upcoming import UpcomingAppointments
from services.auth.credentials.controllers import CredentialController, internal_mail_handler
from services.auth.credentials.service import CredentialService
from services.auth.database import Transactions
from services.auth.doctors.controllers import DoctorController
from services.auth.doctors.reads import DoctorReads
from services.auth.documents.controllers import beginning, errors
from services.auth.errors import CONSTRAINTS
from services.auth.mails.links import LinkTokens
from services.auth.mails.reads import MailReads
from services.auth.mfa.codes import FactorSecrets
from services.auth.mfa.controllers import MfaController
from services.auth.mfa.service import MfaService
from services.auth.models import EXPIRING
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
from services.kit.http.service import Service
from services.kit.postgres.clean_up import CleanUp
from services.kit.postgres.database import Database
from services.kit.postgres.migrations import check_schema
from services.kit.postgres.relay import Relay
from services.kit.settings import SettingsError
from services.kit.subkeys import Subkeys
from services.kit.tasks import every
from services.kit.trail.chain import SEAL_SECONDS
from services.kit.trail.seals import Sealer
from services.kit.trail.tables import AuditTrail

MIGRATIONS = Path(__file__).with_name("migrations")
_DESCRIPTION = "Accounts of patients, doctors and admins, their sessions, and the list of doctors."


class _Stores(NamedTuple):
    database: Database
    transactions: Transactions
    signing_keys: SigningKeys
    trail: AuditTrail
    relay: Relay


def create(settings: Settings) -> Service:
    service = Service("auth", settings, description=_DESCRIPTION)
    database = service.opening(Database(settings.auth_database_url, registry=service.registry, constraints=CONSTRAINTS))
    transactions = service.closing(Transactions(settings.auth_database_url))
    signing_keys = _signing_keys(Path(settings.auth_signing_keys_file))

    async def check_postgres() -> None:
        await check_schema(database, MIGRATIONS)
        await transactions.check()

    async def own_keys() -> bytes:
        return signing_keys.public_document

    service.health.add("postgres", check_postgres, essential=True)
    service.verify_tokens(own_keys)
    trail = AuditTrail(database)
    service.audit(trail, "/api/auth/audit", operation_id="readAuthAudit", reader=Role.ADMIN)
    service.when_ready("audit seals", every(SEAL_SECONDS, Sealer(database, service.registry).seal))
    relay = Relay(
        database_url=settings.auth_database_url,
        redis_url=settings.redis_url,
        stream=USERS.name,
        groups=USERS.groups,
        sign=signing_keys.sign,
        registry=service.registry,
    )
    service.when_ready("relay", relay.run)
    features = _features(service, settings, _Stores(database, transactions, signing_keys, trail, relay))
    services = (settings.booking_to_auth_token, settings.notification_to_auth_token)
    service.mount(
        [
            DoctorController,
            PatientController,
            ProfileController,
            LoginController,
            SessionController,
            CredentialController,
            MfaController,
            beginning,
            errors,
        ],
        internal=[
            internal_user_handler(features["user_reads"], *services),
            internal_mail_handler(features["credentials"], settings.notification_to_auth_token),
            internal_keys_handler(signing_keys),
        ],
        dependencies=features,
    )
    return service


def _features(service: Service, settings: Settings, stores: _Stores) -> dict[str, Any]:
    """Return, by name, what the controllers ask for, and add its tasks to the service."""
    database, transactions, signing_keys, trail, relay = stores
    mail_reads, session_reads, user_reads = MailReads(database), SessionReads(database), UserReads(database)
    throttle_rows = ThrottleRepository(database)
    service.when_ready("clean-up", CleanUp(database, service.registry, *EXPIRING).run)

    booking = service.neighbour(settings.booking_internal_url, settings.auth_to_booking_token)
    upcoming, passwords = UpcomingAppointments(booking), Passwords(service.registry)
    subkeys = Subkeys(settings.auth_secret_key, settings.auth_previous_secret_key)
    devices, links = DeviceTokens(subkeys.of("known devices")), LinkTokens(subkeys.of("mailed links"))
    throttles = Throttles(
        throttle_rows, subkeys.of("throttles")[0], service.registry, by_address=settings.address_limits
    )
    current_password = CurrentPassword(user_reads, passwords, throttles)
    mfa = _mfa(settings, stores, current_password, FactorSecrets.of(subkeys), throttles)
    wake = relay.wake
    doctors_start_as = UserStatus.ACTIVE if settings.doctor_approval == "automatic" else UserStatus.PENDING
    accounts = AccountService(
        transactions,
        passwords,
        upcoming,
        throttles,
        current_password,
        doctors_start_as=doctors_start_as,
        events_committed=wake,
    )
    sessions = _sessions(settings, stores, session_reads, passwords, devices, throttles, mfa)
    credentials = CredentialService(
        transactions, mail_reads, passwords, current_password, links, devices, throttles, events_committed=wake
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
        events_committed=wake,
    )
    return {
        "accounts": accounts,
        "credentials": credentials,
        "doctor_reads": DoctorReads(database),
        "mfa": mfa,
        "patient_reads": PatientReads(database),
        "profile": profile,
        "session_reads": session_reads,
        "sessions": sessions,
        "signing_keys": signing_keys,
        "user_reads": user_reads,
    }


def _mfa(
    settings: Settings,
    stores: _Stores,
    current_password: CurrentPassword,
    secrets: FactorSecrets,
    throttles: Throttles,
) -> MfaService:
    return MfaService(
        stores.transactions,
        current_password,
        secrets,
        throttles,
        issuer=settings.jwt_issuer,
        required_of_admins=settings.admin_mfa == "required",
        events_committed=stores.relay.wake,
    )


def _sessions(
    settings: Settings,
    stores: _Stores,
    reads: SessionReads,
    passwords: Passwords,
    devices: DeviceTokens,
    throttles: Throttles,
    mfa: MfaService,
) -> SessionService:
    tokens = AccessTokens(
        stores.signing_keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        seconds=settings.access_token_seconds,
    )
    return SessionService(
        stores.transactions,
        reads,
        passwords,
        tokens,
        devices,
        throttles,
        mfa,
        stores.trail,
        lifetime=timedelta(days=settings.session_days),
        events_committed=stores.relay.wake,
    )


def _signing_keys(path: Path) -> SigningKeys:
    try:
        return SigningKeys(path)
    except UnreadableKeys as error:
        raise SettingsError(f"AUTH_SIGNING_KEYS_FILE: {error}; the command `rotate-keys` makes one") from None
