from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from services.auth.errors import AccountSuspended, InvalidCredentials, InvalidRefreshToken
from services.auth.sessions.keys import SigningKeys
from services.auth.sessions.schemas import Login, Refresh, SignedIn
from services.auth.sessions.service import SessionService
from services.contracts.enums import Role
from services.kit.auth import PUBLIC
from services.kit.errors import Unavailable, responses

_LOGIN = responses(InvalidCredentials, AccountSuspended, Unavailable)


class SessionController(Controller):
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
    async def log_in_doctor(self, data: JSONBody[Login], sessions: NamedDependency[SessionService]) -> SignedIn:
        """A wrong password, an unknown e-mail address and an account that is no doctor's get the same answer."""
        return await sessions.login(data, Role.DOCTOR)

    @post(
        "/patients/login",
        summary="Sign in as a patient",
        operation_id="logInPatient",
        status_code=200,
        responses=_LOGIN,
    )
    async def log_in_patient(self, data: JSONBody[Login], sessions: NamedDependency[SessionService]) -> SignedIn:
        """A wrong password, an unknown e-mail address and an account that is no patient's get the same answer."""
        return await sessions.login(data, Role.PATIENT)

    @post("/auth/login", summary="Sign in", operation_id="logIn", status_code=200, responses=_LOGIN)
    async def log_in(self, data: JSONBody[Login], sessions: NamedDependency[SessionService]) -> SignedIn:
        """For accounts of any role; the way in for an admin."""
        return await sessions.login(data)

    @post(
        "/auth/refresh",
        summary="Renew the access token",
        operation_id="refreshTokens",
        status_code=200,
        responses=responses(InvalidRefreshToken, AccountSuspended, Unavailable),
    )
    async def refresh(self, data: JSONBody[Refresh], sessions: NamedDependency[SessionService]) -> SignedIn:
        """Spends the refresh token and gives its successor: keep the new one. Whoever did not get the answer may ask
        again with the old token within 10 seconds. After that a spent token ends the whole session, because it was
        stolen. A session ends for good some time after its login, however often it is renewed.
        """
        return await sessions.refresh(data.refresh_token)

    @get(
        "/auth/.well-known/jwks.json",
        summary="Get the keys that access tokens are verified with",
        operation_id="getSigningKeys",
    )
    async def get_keys(self, signing_keys: NamedDependency[SigningKeys]) -> Response[bytes]:
        """A JSON Web Key Set (RFC 7517). A key is listed at least a minute before it signs and as long as a token
        signed by it may be valid.
        """
        return Response(signing_keys.public_document, media_type="application/json")
