"""The platform as it is deployed: every replica of a service is a process, and all share one set of stores."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from services.auth.accounts.commands import republish
from services.auth.app import MIGRATIONS as AUTH_MIGRATIONS
from services.auth.sessions.keys import SigningKeys, rotate
from services.auth.sessions.tokens import AccessTokens
from services.booking.app import MIGRATIONS as BOOKING_MIGRATIONS
from services.contracts.enums import Role
from services.kit.postgres.migrations import migrate
from services.notification.indexes import migrate as migrate_notification
from services.standalone.databases import DatabaseUrls, create_databases
from services.standalone.kept import KeptSecrets
from services.standalone.process import HOST
from tests.support.issuer import AUDIENCE, ISSUER
from tests.support.process import ServiceProcess, free_ports
from tests.support.quotas import UNLIMITED

_TOKEN_SECONDS = 900
_INSERT = """
    INSERT INTO users (id, email, password_hash, role, status, fullname, time_zone, locale, speciality, experience,
                       consultation_fee, version, created_at, updated_at, email_verified_at)
    SELECT id, id || '@example.com', '', $2, 'ACTIVE', 'Ada Example', 'Europe/Berlin', 'en', $3, $4, $5, 1, now(),
           now(), now()
    FROM unnest($1::uuid[]) AS id
"""


class Stores(NamedTuple):
    """`redis_url` and `mongodb_url` are an administrator's. With `kept`, services get credentials of their own."""

    redis_url: str
    mongodb_url: str
    auth: DatabaseUrls
    booking: DatabaseUrls
    kept: KeptSecrets | None = None

    def redis_url_of(self, service: str) -> str:
        if self.kept is None:
            return self.redis_url
        return self.redis_url.replace(f":{self.kept['valkey']}@", f"{service}:{self.kept[f'valkey {service}']}@")

    @property
    def notification_mongodb_url(self) -> str:
        if self.kept is None:
            return self.mongodb_url
        address = urlsplit(self.mongodb_url)
        return f"mongodb://notification:{self.kept['mongodb notification']}@{HOST}:{address.port}/notification"

    @classmethod
    async def migrated(cls, *, postgres_url: str, redis_url: str, mongodb_url: str, kept: KeptSecrets) -> "Stores":
        """Create and migrate the services' databases in fresh servers."""
        databases = await create_databases(postgres_url, kept)
        for name, migrations in (("auth", AUTH_MIGRATIONS), ("booking", BOOKING_MIGRATIONS)):
            urls = databases[name]
            await migrate(migrations, migration_url=urls.migration, application_url=urls.application)
        stores = cls(redis_url, mongodb_url, databases["auth"], databases["booking"], kept)
        await asyncio.to_thread(migrate_notification, stores.notification_mongodb_url)
        return stores


class Deployment:
    """Start replicas of services and stop them all.

    The other services send their internal requests to the first replica of auth and of booking.
    """

    def __init__(self, folder: Path, stores: Stores, **settings: str) -> None:
        self._folder, self._stores = folder, stores
        keys = folder / "signing-keys.json"
        rotate(keys)
        self.signing_keys = SigningKeys(keys)
        self._tokens = AccessTokens(self.signing_keys, issuer=ISSUER, audience=AUDIENCE, seconds=_TOKEN_SECONDS)
        self._first = {name: free_ports(2) for name in ("auth", "booking")}
        (auth, auth_internal), (_, booking_internal) = self._first["auth"], self._first["booking"]
        self.environment = {
            "MONGODB_URL": stores.notification_mongodb_url,
            "AUTH_DATABASE_URL": stores.auth.application,
            "BOOKING_DATABASE_URL": stores.booking.application,
            "AUTH_TO_BOOKING_TOKEN": "a" * 32,
            "BOOKING_TO_AUTH_TOKEN": "b" * 32,
            "NOTIFICATION_TO_AUTH_TOKEN": "n" * 32,
            "AUTH_SIGNING_KEYS_FILE": str(keys),
            "AUTH_SECRET_KEY": "s" * 32,
            "NOTIFICATION_SECRET_KEY": "s" * 32,
            "ADDRESS_LIMITS": "false",
            "USER_REQUESTS_PER_MINUTE": "0",
            **UNLIMITED,
            "AUTH_INTERNAL_URL": f"http://127.0.0.1:{auth_internal}",
            "BOOKING_INTERNAL_URL": f"http://127.0.0.1:{booking_internal}",
            "JWKS_URL": f"http://127.0.0.1:{auth}/api/auth/.well-known/jwks.json",
            **settings,
        }
        self.processes: dict[str, list[ServiceProcess]] = {}

    def environment_of(self, service: str) -> dict[str, str]:
        return self.environment | {"REDIS_URL": self._stores.redis_url_of(service)}

    def launch(self, service: str, *command: str, **settings: str) -> ServiceProcess:
        """Start another replica, which may not be ready yet. `command` replaces the service's own."""
        replicas = self.processes.setdefault(service, [])
        process = ServiceProcess(
            *(command or (f"services.{service}", "serve")),
            environment=self.environment_of(service) | settings,
            log=self._folder / f"{service}-{len(replicas)}.log",
            ports=self._first.get(service) if not replicas else None,
        )
        process.start()
        replicas.append(process)
        return process

    @property
    def all(self) -> list[ServiceProcess]:
        return [process for replicas in self.processes.values() for process in replicas]

    @property
    def logs(self) -> str:
        return "\n".join(process.output[-3000:] for process in self.all)

    async def ready(self) -> None:
        await asyncio.gather(*(process.ready() for process in self.all))

    async def register(self, role: Role, people: Sequence[UUID]) -> None:
        """Insert accounts as rows, because hashing passwords takes long, and publish them as auth would."""
        details = ("Cardiology", 12, 80) if role is Role.DOCTOR else (None, None, None)
        connection = await asyncpg.connect(self._stores.auth.application)
        await connection.execute(_INSERT, people, role, *details)
        await connection.close()
        await republish(self._stores.auth.application)

    def token(self, user_id: UUID, role: Role) -> str:
        """Make an access token that is valid for 15 minutes."""
        return self._tokens.issue(user_id, role, uuid7())

    def stop(self) -> None:
        for process in self.all:
            process.send(signal.SIGTERM)
        for process in self.all:
            process.stop()
