"""A real HTTP server with the routes of auth that other services call: keys, users and mails."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import uvicorn
from litestar import Litestar, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from uuid_utils.compat import uuid7

from services.contracts.enums import MailKind, Role, UserStatus
from services.contracts.events import UserState
from services.contracts.mails import Mail
from services.kit.http.guards import requires_internal_token
from tests.support.canary import called, new_email
from tests.support.issuer import Issuer

INTERNAL_TOKEN = "internal-token-of-the-tests-0123456789"


class _Server(uvicorn.Server):
    """Leaves signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class AuthStub:
    """`register` adds a user for whom no event was published. `up = False` is an outage.

    A look-up of a user takes `seconds`. `mails` holds the mails whose links are valid.
    """

    def __init__(self) -> None:
        self.issuer = Issuer()
        self.users: dict[UUID, UserState] = {}
        self.asked: list[UUID] = []
        self.mails: dict[UUID, Mail] = {}
        self.up = True
        self.seconds = 0.0
        self.url = ""

    def user(
        self,
        role: Role,
        full_name: str = called("Sam"),
        *,
        time_zone: str = "UTC",
        locale: str = "en",
        version: int = 1,
    ) -> UserState:
        return UserState(
            id=uuid7(),
            full_name=full_name,
            role=role,
            status=UserStatus.ACTIVE,
            time_zone=time_zone,
            locale=locale,
            email=new_email(),
            email_verified=True,
            version=version,
        )

    def register(
        self, role: Role, full_name: str = called("Sam"), *, time_zone: str = "UTC", locale: str = "en"
    ) -> UserState:
        user = self.user(role, full_name, time_zone=time_zone, locale=locale)
        self.users[user.id] = user
        return user

    def mail(self, user: UserState, kind: MailKind, *, expires_at: datetime | None = None) -> Mail:
        mail = Mail(
            id=uuid7(),
            kind=kind,
            user_id=user.id,
            email=user.email,
            full_name=user.full_name,
            locale=user.locale,
            time_zone=user.time_zone,
            token=secrets.token_urlsafe(48),
            expires_at=expires_at or datetime.now(UTC) + timedelta(hours=1),
        )
        self.mails[mail.id] = mail
        return mail

    def bearer(self, user: UserState) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.issuer.token(user.id, user.role)}"}

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        @get("/internal/users/{user_id:uuid}", before_request=requires_internal_token(INTERNAL_TOKEN))
        async def user(user_id: FromPath[UUID]) -> Response[bytes]:
            self.asked.append(user_id)
            await asyncio.sleep(self.seconds)
            if not self.up:
                return Response(b"", status_code=503)
            if user_id not in self.users:
                raise NotFoundException
            return Response(msgspec.json.encode(self.users[user_id]), media_type="application/json")

        @get("/internal/mails/{mail_id:uuid}", before_request=requires_internal_token(INTERNAL_TOKEN))
        async def mail(mail_id: FromPath[UUID]) -> Response[bytes]:
            if not self.up:
                return Response(b"", status_code=503)
            if mail_id not in self.mails:
                raise NotFoundException
            return Response(msgspec.json.encode(self.mails[mail_id]), media_type="application/json")

        @get("/api/auth/.well-known/jwks.json")
        async def jwks() -> Response[bytes]:
            return Response(self.issuer.jwks, media_type="application/json", status_code=200 if self.up else 503)

        app = Litestar([user, mail, jwks], openapi_config=None, logging_config=None)
        port = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{port.getsockname()[1]}"
        server = _Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[port]))
        try:
            yield
        finally:
            server.should_exit = True
            await serving
