"""What may be tried how often: by account, by known device, and by network address."""

import hmac
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter

from services.auth.clients import Client
from services.auth.throttles.repository import Key, Limit, ThrottleRepository
from services.kit.errors import TooManyRequests

_LOGIN = Limit("login", free=5, longest_seconds=300)
_LOGIN_BY_DEVICE = Limit("login by device", free=5, longest_seconds=300)
_LOGIN_BY_ADDRESS = Limit("login by address", free=20, longest_seconds=300)
_PASSWORD = Limit("password", free=5, longest_seconds=300)
_OTP = Limit("one-time code", free=5, longest_seconds=900)
_RESET = Limit("reset", free=3, longest_seconds=900)
_RESET_BY_ADDRESS = Limit("reset by address", free=20, longest_seconds=300)
_VERIFICATION = Limit("verification", free=3, longest_seconds=900)
_SIGN_UP = Limit("sign-up", free=5, longest_seconds=300)
# Everybody in a clinic may have the same address.
_SIGN_UP_BY_ADDRESS = Limit("sign-up by address", free=30, longest_seconds=60)


class Attempt:
    """Something tried, under the limit of its subject and, where addresses count, under that of the address."""

    def __init__(self, repository: ThrottleRepository, refused: Counter, own: Key, by_address: Key | None) -> None:
        self._repository, self._refused, self._own = repository, refused, own
        self._keys = [own] if by_address is None else [own, by_address]

    async def check(self) -> None:
        """Raises `TooManyRequests` during a pause."""
        if seconds := await self._repository.remaining(self._keys):
            raise self._refusal(seconds)

    async def count(self) -> None:
        """Count it as failed, or as used where each one counts; raises `TooManyRequests` if a pause has begun.

        Then a guess is refused, right or wrong: of a hundred at once no more are answered than of a hundred in a row.
        """
        # One after the other in this order: two attempts never wait for each other crosswise.
        counted = [await self._repository.fail(key) for key in self._keys]
        if not all(counted):
            raise self._refusal(await self._repository.remaining(self._keys))

    async def forget(self) -> None:
        """It succeeded. The address' count stays: it is not for one who has an account to clear it."""
        await self._repository.forget(self._own)

    def _refusal(self, seconds: int) -> TooManyRequests:
        self._refused.labels(self._own.limit.scope).inc()
        return TooManyRequests(max(seconds, 1))


class Throttles:
    """`key` makes the subjects pseudonyms, so that the table has no addresses, neither of mail nor of networks."""

    def __init__(
        self,
        repository: ThrottleRepository,
        key: bytes,
        registry: CollectorRegistry,
        *,
        by_address: bool,
        trusted_hops: int,
    ) -> None:
        self._repository, self._key = repository, key
        self._by_address, self._trusted_hops = by_address, trusted_hops
        self._refused = Counter(
            "throttled_attempts_total", "Attempts refused during a pause", ["limit"], registry=registry
        )

    def login(self, email: str, device: str | None, client: Client) -> Attempt:
        """A known device has a limit of its own: who guesses from elsewhere does not lock its owner out."""
        if device is not None:
            return self._attempt(_LOGIN_BY_DEVICE, device)
        return self._attempt(_LOGIN, email, _LOGIN_BY_ADDRESS, client)

    def sign_up(self, email: str, client: Client) -> Attempt:
        return self._attempt(_SIGN_UP, email, _SIGN_UP_BY_ADDRESS, client)

    def reset(self, email: str, client: Client) -> Attempt:
        return self._attempt(_RESET, email, _RESET_BY_ADDRESS, client)

    def password(self, user_id: UUID) -> Attempt:
        """Of somebody who is signed in, which says nothing about logins."""
        return self._attempt(_PASSWORD, str(user_id))

    def otp(self, user_id: UUID) -> Attempt:
        """Only who has the password, or a session, gets to try one."""
        return self._attempt(_OTP, str(user_id))

    def verification(self, user_id: UUID) -> Attempt:
        return self._attempt(_VERIFICATION, str(user_id))

    def _attempt(
        self, limit: Limit, subject: str, address_limit: Limit | None = None, client: Client | None = None
    ) -> Attempt:
        by_address = None
        if self._by_address and address_limit is not None and client is not None:
            by_address = self._key_of(address_limit, client.address(self._trusted_hops))
        return Attempt(self._repository, self._refused, self._key_of(limit, subject), by_address)

    def _key_of(self, limit: Limit, subject: str) -> Key:
        return Key(limit, hmac.digest(self._key, subject.encode(), "sha256"))
