"""The whole platform in one process: embedded servers, the three services under one origin, a local admin."""

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import structlog
import uvloop

from services.auth.accounts.commands import NewAdmin, create_admin
from services.auth.app import MIGRATIONS as AUTH_MIGRATIONS
from services.auth.app import create as create_auth
from services.auth.sessions.keys import rotate
from services.auth.settings import Settings as AuthSettings
from services.booking.app import MIGRATIONS as BOOKING_MIGRATIONS
from services.booking.app import create as create_booking
from services.booking.settings import Settings as BookingSettings
from services.kit.command.server import Listener, run
from services.kit.http.service import Service
from services.kit.postgres.migrations import migrate
from services.kit.settings import load
from services.notification.app import create as create_notification
from services.notification.settings import Settings as NotificationSettings
from services.standalone.databases import DatabaseUrls, create_databases
from services.standalone.gateway import Gateway
from services.standalone.kept import ADMIN_PASSWORD, KeptSecrets
from services.standalone.process import ServerError
from services.standalone.servers import Servers
from services.standalone.settings import Settings
from services.standalone.welcome import welcome

log = structlog.get_logger("standalone")

_WATCH_SECONDS = 1.0
_SHUTDOWN_SECONDS = 10


def serve(settings: Settings) -> None:
    """Serve until Ctrl-C, and stop everything that was started, and nothing else."""
    public = Listener(settings.host, settings.port)
    directory = Path(settings.data_dir)
    servers = Servers(
        directory,
        postgres=not (settings.auth_database_url and settings.booking_database_url),
        redis=settings.redis_url is None,
        mongodb=settings.mongodb_url is None,
    )
    with servers, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, public, servers, directory))


async def _serve(settings: Settings, public: Listener, servers: Servers, directory: Path) -> None:
    databases = await _databases(settings, servers)
    for name, migrations in (("auth", AUTH_MIGRATIONS), ("booking", BOOKING_MIGRATIONS)):
        urls = databases[name]
        await migrate(migrations, migration_url=urls.migration, application_url=urls.application)
    signing_keys = directory / "signing-keys.json"
    if not signing_keys.exists():
        rotate(signing_keys)
    internal = {name: Listener("127.0.0.1", 0) for name in ("auth", "booking", "notification")}
    services = _services(settings, servers, databases, signing_keys, public, internal)
    password = await _make_admin(settings, servers.kept, databases["auth"].application)
    welcome(settings, public.port, servers, admin_password=password)
    watch = asyncio.create_task(_watch(servers))
    await run(
        (public, Gateway(services)),
        [(listener, services[name].internal) for name, listener in internal.items()],
        [service.health for service in services.values()],
        drain_delay_seconds=0,
        shutdown_seconds=_SHUTDOWN_SECONDS,
    )
    watch.cancel()


async def _databases(settings: Settings, servers: Servers) -> Mapping[str, DatabaseUrls]:
    given = {
        "auth": (settings.auth_migration_database_url, settings.auth_database_url),
        "booking": (settings.booking_migration_database_url, settings.booking_database_url),
    }
    external = {
        name: DatabaseUrls(migration=migration or application, application=application)
        for name, (migration, application) in given.items()
        if application
    }
    embedded = {} if len(external) == len(given) else await create_databases(servers.postgres_url, servers.kept)
    return {**embedded, **external}


def _services(
    settings: Settings,
    servers: Servers,
    databases: Mapping[str, DatabaseUrls],
    signing_keys: Path,
    public: Listener,
    internal: Mapping[str, Listener],
) -> dict[str, Service]:
    """Each service by its own settings, as if it stood in an environment of its own."""
    environment = {
        "MONGODB_URL": settings.mongodb_url or servers.mongodb_application_url,
        "AUTH_DATABASE_URL": databases["auth"].application,
        "BOOKING_DATABASE_URL": databases["booking"].application,
        "AUTH_TO_BOOKING_TOKEN": servers.kept["auth to booking token"],
        "BOOKING_TO_AUTH_TOKEN": servers.kept["booking to auth token"],
        "NOTIFICATION_TO_AUTH_TOKEN": servers.kept["notification to auth token"],
        "AUTH_SIGNING_KEYS_FILE": str(signing_keys),
        "AUTH_SECRET_KEY": servers.kept["auth secret key"],
        "NOTIFICATION_SECRET_KEY": servers.kept["notification secret key"],
        "AUTH_INTERNAL_URL": f"http://127.0.0.1:{internal['auth'].port}",
        "BOOKING_INTERNAL_URL": f"http://127.0.0.1:{internal['booking'].port}",
        "JWKS_URL": f"http://127.0.0.1:{public.port}/api/auth/.well-known/jwks.json",
        "DOCTOR_APPROVAL": settings.doctor_approval,
        "SMTP_URL": settings.smtp_url or "",
        "MAIL_FROM": settings.mail_from or "",
        "LINK_BASE_URL": settings.link_base_url or "",
        "USER_REQUESTS_PER_MINUTE": str(settings.user_requests_per_minute),
        "PATIENT_BOOKINGS_PER_HOUR": str(settings.patient_bookings_per_hour),
        "ADDRESS_LIMITS": "false",  # everybody has the same one here
    }

    def of(service: str) -> dict[str, str]:
        return environment | {"REDIS_URL": settings.redis_url or servers.redis_url_of(service)}

    return {
        "auth": create_auth(load(AuthSettings, of("auth"))),
        "booking": create_booking(load(BookingSettings, of("booking"))),
        "notification": create_notification(load(NotificationSettings, of("notification"))),
    }


async def _make_admin(settings: Settings, kept: KeptSecrets, database_url: str) -> str | None:
    """The password to print: only when the account was made just now, and nobody chose one."""
    password = settings.admin_password or kept[ADMIN_PASSWORD]
    created = await create_admin(database_url, NewAdmin(email=settings.admin_email, password=password))
    return password if created and settings.admin_password is None else None


async def _watch(servers: Servers) -> None:
    """Brings back an embedded server that ended by itself; meanwhile the services answer 503."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        if dead := servers.dead():
            log.error("embedded servers ended by themselves, starting them again", servers=dead)
            try:
                servers.start()
            except ServerError as error:
                log.critical("they cannot be started again, stopping", reason=str(error))
                os.kill(os.getpid(), signal.SIGTERM)
                return
