"""The caller: access tokens are verified locally, by the keys that auth publishes."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic, time
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import jwt
import msgspec
import structlog

from services.kit.errors import Forbidden, ProblemError, Unauthorized, Unavailable
from services.kit.tasks import Run, pause

log = structlog.get_logger("auth")

ALGORITHM = "EdDSA"
TOKEN_TYPE = "at+jwt"  # noqa: S105
LEEWAY_SECONDS = 30
_MAX_TOKEN_LENGTH = 4096
_CACHE_SIZE = 20_000
_REFRESH_SECONDS = 30.0
# At most this often is auth asked for its keys because of an unknown key id.
_UNKNOWN_KEY_SECONDS = 3.0


class Principal(msgspec.Struct, frozen=True):
    """The verified caller. `role` is the one at the token's issue; writes check that it still holds."""

    id: UUID
    role: str
    session_id: UUID
    expires_at: int


class InvalidToken(Unauthorized):
    code, title = "invalid_token", "The access token is invalid or has expired"
    when = "The access token is malformed, expired, or not made for this platform."
    remedy = "Exchange the refresh token at `POST /api/auth/refresh` once and repeat the request; otherwise sign in."


class AccountSuspended(Forbidden):
    code, title = "account_suspended", "This account is suspended"
    when = "An admin has suspended the account."
    remedy = "Tell the user to ask the clinic; nothing else helps."


class SessionEnded(Unauthorized):
    code, title = "session_revoked", "This session has ended; sign in again"
    when = "The user or an admin ended the session, or a spent refresh token was used."
    remedy = "Sign in again."


class KnownCaller(NamedTuple):
    """The caller as the service's own store knows it now. `role` is None while the service has no row of the user."""

    role: str | None
    suspended: bool
    session_ended: bool


def check_caller(principal: Principal, known: KnownCaller) -> None:
    """Raise unless the account and the session still are what the token says.

    A token outlives a suspension, a change of role and the end of its session by minutes; a write must not. Read
    `known` in the transaction that writes, never from a cache of the process.
    """
    if known.suspended:
        raise AccountSuspended
    if known.session_ended:
        raise SessionEnded
    if known.role not in (None, principal.role):
        raise Forbidden("Your role has changed; sign in again")


class TokenKeyStore(Protocol):
    """Where a service keeps the last good key document."""

    async def load(self) -> bytes | None: ...

    async def save(self, document: bytes) -> None: ...


class TokenVerifier:
    """Verifies EdDSA access tokens by the keys of a JWKS document.

    `fetch` returns the document, which is auth's. `store` keeps the last good one, so that a process that starts while
    auth is down can verify; auth itself has the keys and needs none.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        fetch: Callable[[], Awaitable[bytes]],
        store: TokenKeyStore | None = None,
    ) -> None:
        self._issuer, self._audience = issuer, audience
        self._fetch, self._store = fetch, store
        self._document = self._kept = b""
        self._keys: dict[str, Any] = {}
        self._retired: dict[str, Any] = {}
        self._verified: dict[str, Principal] = {}
        self._refreshing = asyncio.Lock()
        self._tried = self._fresh = float("-inf")

    async def verify(self, token: str) -> Principal:
        """Return the caller; raise `InvalidToken`, or `Unavailable` while the token's key cannot be fetched."""
        if (known := self._verified.get(token)) is not None:
            if known.expires_at + LEEWAY_SECONDS > time():
                return known
            del self._verified[token]
        principal = self._decode(token, await self._key_of(token))
        if len(self._verified) >= _CACHE_SIZE:
            self._verified.clear()
        self._verified[token] = principal
        return principal

    def _decode(self, token: str, key: Any) -> Principal:
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
            return Principal(
                id=UUID(claims["sub"]),
                role=str(claims["role"]),
                session_id=UUID(claims["sid"]),
                expires_at=int(claims["exp"]),
            )
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, AttributeError):
            raise InvalidToken from None

    async def _key_of(self, token: str) -> Any:
        if len(token) > _MAX_TOKEN_LENGTH:
            raise InvalidToken
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            raise InvalidToken from None
        key_id = header.get("kid")
        if header.get("alg") != ALGORITHM or header.get("typ") != TOKEN_TYPE or not isinstance(key_id, str):
            raise InvalidToken
        if key_id not in self._keys:
            await self._refresh_for_unknown_key()
        if key_id not in self._keys:
            self._raise_where_keys_are_old()
            raise InvalidToken
        return self._keys[key_id]

    async def find_key(self, key_id: str) -> Any:
        """The public key of that id, or None; also one that signs tokens no more, for events that it signed.

        Raises `Unavailable` where it is unknown and auth cannot be asked.
        """
        if key_id not in self._keys and key_id not in self._retired:
            await self._refresh_for_unknown_key()
        found = self._keys.get(key_id) or self._retired.get(key_id)
        if found is None:
            self._raise_where_keys_are_old()
        return found

    def _raise_where_keys_are_old(self) -> None:
        if monotonic() - self._fresh > _UNKNOWN_KEY_SECONDS + 1:
            raise Unavailable("The keys to verify access tokens with are not available")

    async def _refresh_for_unknown_key(self) -> None:
        seen = self._tried
        async with self._refreshing:
            if seen == self._tried and monotonic() - self._tried >= _UNKNOWN_KEY_SECONDS:
                await self._refresh()

    async def _refresh(self) -> None:
        self._tried = monotonic()
        try:
            async with asyncio.timeout(2):
                document = await self._fetch()
            self._adopt(document)
            self._document = document
            self._fresh = monotonic()
        except Exception as error:
            log.warning("token keys could not be fetched", error=type(error).__name__)

    def _adopt(self, document: bytes) -> None:
        found = msgspec.json.decode(document)
        keys = {key["kid"]: jwt.PyJWK(key).key for key in found["keys"]}
        self._retired = {key["kid"]: jwt.PyJWK(key).key for key in found.get("retired", ())}
        if keys.keys() != self._keys.keys():
            self._verified.clear()  # a key that was withdrawn verifies nothing any more
        self._keys = keys

    def refreshing(self) -> Run:
        """Return a task that adopts the stored document first, then fetches auth's every 30 s."""

        async def run(stop: asyncio.Event) -> None:
            while not stop.is_set():
                if not self._keys:
                    await self._adopt_stored()
                async with self._refreshing:
                    await self._refresh()
                await self._keep()
                await pause(stop, _REFRESH_SECONDS if self._keys else 0.5)

        return run

    async def _adopt_stored(self) -> None:
        if self._store is None:
            return
        try:
            if document := await self._store.load():
                self._adopt(document)
                self._document = self._kept = document
        except ProblemError:
            log.warning("stored token keys could not be read")

    async def _keep(self) -> None:
        """Store the document, in the background task only: a request that waits for a key must not wait for this."""
        if self._store is None or (document := self._document) == self._kept:
            return
        try:
            await self._store.save(document)
        except ProblemError:
            return  # the next round tries again
        self._kept = document
