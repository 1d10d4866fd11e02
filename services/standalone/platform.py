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
from services.notification.indexes import migrate as migrate_notification
from services.notification.settings import Settings as NotificationSettings
from services.standalone.databases import DatabaseUrls, create_databases
from services.standalone.gateway import Gateway
from services.standalone.kept import ADMIN_EMAIL, ADMIN_PASSWORD, KeptSecrets
from services.standalone.process import ServerError
from services.standalone.servers import Servers
from services.standalone.settings import Settings
from services.standalone.welcome import welcome

log = structlog.get_logger("standalone")

_WATCH_SECONDS = 1.0
_SHUTDOWN_SECONDS = 10
# Every client has the same address here, so that a limit by address would limit them all together.
_DEFAULTS = {"DOCTOR_APPROVAL": "automatic", "ADDRESS_LIMITS": "false"}
# Without a mail server nobody can verify an address.
_WITHOUT_MAIL = {"UNVERIFIED_OPEN_APPOINTMENTS": "0", "UNVERIFIED_OPEN_HOURS": "0"}


def serve(settings: Settings, environment: Mapping[str, str]) -> None:
    """Serve until Ctrl-C, then stop every server that was started here.

    The services read what `environment` says about them, apart from the addresses and secrets that are made here.
    """
    public = Listener(settings.host, settings.port)
    servers = Servers(
        Path(settings.data_dir),
        postgres=not (settings.auth_database_url and settings.booking_database_url),
        redis=settings.redis_url is None,
        mongodb=settings.mongodb_url is None,
    )
    with servers, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        defaults = _DEFAULTS if environment.get("SMTP_URL") else _DEFAULTS | _WITHOUT_MAIL
        runner.run(_serve(settings, defaults | dict(environment), public, servers))


async def _serve(settings: Settings, environment: Mapping[str, str], public: Listener, servers: Servers) -> None:
    databases = await _databases(settings, servers)
    for name, migrations in (("auth", AUTH_MIGRATIONS), ("booking", BOOKING_MIGRATIONS)):
        urls = databases[name]
        await migrate(migrations, migration_url=urls.migration, application_url=urls.application)
    await asyncio.to_thread(migrate_notification, settings.mongodb_url or servers.mongodb_application_url)
    internal = {name: Listener("127.0.0.1", 0) for name in ("auth", "booking", "notification")}
    services = _services(settings, environment, servers, databases, public, internal)
    password = await _create_admin(settings, servers.kept, databases["auth"].application)
    welcome(settings, public.port, servers, admin_password=password)
    watch = asyncio.create_task(_watch(servers))
    await run(
        (public, Gateway(services)),
        [(listener, services[name].internal) for name, listener in internal.items()],
        [service.health for service in services.values()],
        drain_delay_seconds=0,
        shutdown_seconds=_SHUTDOWN_SECONDS,
        cors=services["auth"].cors,  # the same setting in all of them
    )
    watch.cancel()


async def _databases(settings: Settings, servers: Servers) -> Mapping[str, DatabaseUrls]:
    auth, booking = settings.auth_database_url, settings.booking_database_url
    databases = {} if auth and booking else await create_databases(servers.postgres_url, servers.kept)
    if auth:
        databases["auth"] = DatabaseUrls(settings.auth_migration_database_url or auth, auth)
    if booking:
        databases["booking"] = DatabaseUrls(settings.booking_migration_database_url or booking, booking)
    return databases


def _services(
    settings: Settings,
    environment: Mapping[str, str],
    servers: Servers,
    databases: Mapping[str, DatabaseUrls],
    public: Listener,
    internal: Mapping[str, Listener],
) -> dict[str, Service]:
    signing_keys = Path(settings.data_dir) / "signing-keys.json"
    if not signing_keys.exists():
        rotate(signing_keys)
    made = {
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
        "JWKS_URL": f"http://127.0.0.1:{internal['auth'].port}/api/auth/.well-known/jwks.json",
    }

    def of(service: str) -> dict[str, str]:
        return {**environment, **made, "REDIS_URL": settings.redis_url or servers.redis_url_of(service)}

    return {
        "auth": create_auth(load(AuthSettings, of("auth"))),
        "booking": create_booking(load(BookingSettings, of("booking"))),
        "notification": create_notification(load(NotificationSettings, of("notification"))),
    }


async def _create_admin(settings: Settings, kept: KeptSecrets, database_url: str) -> str | None:
    """Create the local admin if it is missing. Return the password if it was generated just now."""
    password = settings.admin_password or kept[ADMIN_PASSWORD]
    created = await create_admin(database_url, NewAdmin(email=settings.admin_email, password=password))
    if created:
        # The demo signs in with them, also when the operator chose them for this process only.
        kept[ADMIN_EMAIL], kept[ADMIN_PASSWORD] = settings.admin_email, password
    return password if created and settings.admin_password is None else None


async def _watch(servers: Servers) -> None:
    """Restart embedded servers that died. Until they answer, the services respond with 503."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        if dead := servers.dead():
            log.error("embedded servers died, restarting them", servers=dead)
            try:
                servers.start()
            except ServerError as error:
                log.critical("embedded servers cannot be restarted, stopping", reason=str(error))
                os.kill(os.getpid(), signal.SIGTERM)
                return
