from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody

from services.auth.errors import (
    InvalidCredentials,
    InvalidOtp,
    InvalidRefreshToken,
    LoginSuspended,
    MfaRequired,
    MfaSetupRequired,
)
from services.auth.sessions.keys import SigningKeys
from services.auth.sessions.reads import SessionReads
from services.auth.sessions.schemas import KeySet, Login, OwnSession, Refresh, SignedIn
from services.auth.sessions.service import SessionService
from services.contracts.enums import Role
from services.kit.errors import NotFound, TooManyRequests, Unavailable
from services.kit.http.guards import PUBLIC, AuthenticatedRequest, requires
from services.kit.http.paging import Cursor, Limit, Page, decode_cursor
from services.kit.http.responses import CALLER_CHECKED, SIGNED_IN, responses

_LOGIN = responses(
    InvalidCredentials, MfaRequired, MfaSetupRequired, InvalidOtp, LoginSuspended, TooManyRequests, Unavailable
)


class LoginController(Controller):
    path = "/api"
    tags = ["Sessions"]
    security = PUBLIC

    @post(
        "/doctors/login",
        summary="Sign in as a doctor",
        operation_id="logInDoctor",
        status_code=200,
        responses=_LOGIN,
    )
    async def log_in_doctor(
        self, data: JSONBody[Login], request: Request[Any, Any, Any], sessions: NamedDependency[SessionService]
    ) -> SignedIn:
        """Sign in. A wrong password, an unknown e-mail address and an account of another role get the same answer."""
        return await sessions.login(data, request.headers.get("user-agent"), Role.DOCTOR)

    @post(
        "/patients/login",
        summary="Sign in as a patient",
        operation_id="logInPatient",
        status_code=200,
        responses=_LOGIN,
    )
    async def log_in_patient(
        self, data: JSONBody[Login], request: Request[Any, Any, Any], sessions: NamedDependency[SessionService]
    ) -> SignedIn:
        """Sign in. A wrong password, an unknown e-mail address and an account of another role get the same answer."""
        return await sessions.login(data, request.headers.get("user-agent"), Role.PATIENT)

    @post("/auth/login", summary="Sign in", operation_id="logIn", status_code=200, responses=_LOGIN)
    async def log_in(
        self, data: JSONBody[Login], request: Request[Any, Any, Any], sessions: NamedDependency[SessionService]
    ) -> SignedIn:
        """Sign in with an account of any role; admins sign in here."""
        return await sessions.login(data, request.headers.get("user-agent"))

    @post(
        "/auth/refresh",
        summary="Renew the access token",
        operation_id="refreshTokens",
        status_code=200,
        responses=responses(InvalidRefreshToken, LoginSuspended, MfaSetupRequired, Unavailable),
    )
    async def refresh(self, data: JSONBody[Refresh], sessions: NamedDependency[SessionService]) -> SignedIn:
        """Replace the refresh token: keep the new one. A client that did not get the answer may send the old token once
        more within 10 seconds; later, a spent token ends the whole session, because it was stolen. A session ends some
        time after its login, however often it is renewed.
        """
        return await sessions.refresh(data.refresh_token)

    @get(
        "/auth/.well-known/jwks.json",
        summary="Get the keys that verify access tokens",
        operation_id="getSigningKeys",
        responses={
            200: ResponseSpec(KeySet, generate_examples=False, description="A JSON Web Key Set"),
            **responses(),
        },
    )
    async def get_keys(self, signing_keys: NamedDependency[SigningKeys]) -> Response[bytes]:
        """Return a JSON Web Key Set (RFC 7517). It lists a key from some minutes before it signs until the last token
        that it signed has expired.
        """
        return Response(signing_keys.public_document, media_type="application/json")


class SessionController(Controller):
    path = "/api/auth"
    tags = ["Sessions"]

    @post(
        "/logout",
        summary="Sign out",
        operation_id="logOut",
        status_code=204,
        before_request=requires(),
        responses=responses(*SIGNED_IN),
    )
    async def log_out(self, request: AuthenticatedRequest, sessions: NamedDependency[SessionService]) -> None:
        """End the session of the access token: its refresh token is void at once, and within a second every service
        refuses writes with its access tokens. They still read until they expire.
        """
        await sessions.logout(request.user)

    @get(
        "/sessions",
        summary="List the caller's sessions",
        operation_id="listSessions",
        before_request=requires(),
        responses=responses(*SIGNED_IN),
    )
    async def list_sessions(
        self,
        request: AuthenticatedRequest,
        session_reads: NamedDependency[SessionReads],
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Page[OwnSession]:
        """List the logins that have neither ended nor expired, the newest first."""
        before = decode_cursor(cursor, UUID)
        found = await session_reads.list(request.user, limit=limit + 1, before=before)
        return Page.of(found, limit, lambda session: session.id)

    @delete(
        "/sessions/{id:uuid}",
        summary="End a session",
        operation_id="endSession",
        before_request=requires(),
        responses=responses(*CALLER_CHECKED, NotFound),
    )
    async def end_session(
        self, id: FromPath[UUID], request: AuthenticatedRequest, sessions: NamedDependency[SessionService]
    ) -> None:
        """End one of the caller's sessions, such as that of a lost device, as signing out there would."""
        await sessions.end(request.user, id)


def internal_keys_handler(signing_keys: SigningKeys) -> HTTPRouteHandler:
    """Publish the keys on the internal port as well, where they can be fetched by TLS."""

    @get("/api/auth/.well-known/jwks.json")
    async def get_keys() -> Response[bytes]:
        return Response(signing_keys.public_document, media_type="application/json")

    return get_keys
