"""How often something may be tried: by account, by known device, and by network address."""

import hmac
from uuid import UUID

from prometheus_client import CollectorRegistry, Counter

from services.auth.throttles.repository import Key, Limit, ThrottleRepository
from services.kit.errors import TooManyRequests
from services.kit.origin import origin

_LOGIN = Limit("login", free=5, longest_seconds=300)
_LOGIN_BY_DEVICE = Limit("login by device", free=5, longest_seconds=300)
_LOGIN_BY_ADDRESS = Limit("login by address", free=20, longest_seconds=300)
_PASSWORD = Limit("password", free=5, longest_seconds=300)
_OTP = Limit("one-time code", free=5, longest_seconds=900)
_RESET = Limit("reset", free=3, longest_seconds=900)
_RESET_BY_ADDRESS = Limit("reset by address", free=20, longest_seconds=300)
_VERIFICATION = Limit("verification", free=3, longest_seconds=900)
_SIGN_UP = Limit("sign-up", free=5, longest_seconds=300)
# All of a clinic may have the same address.
_SIGN_UP_BY_ADDRESS = Limit("sign-up by address", free=30, longest_seconds=60)


class Attempt:
    """An attempt under the limit of its subject and, where addresses count, under that of the network address."""

    def __init__(self, repository: ThrottleRepository, refused: Counter, own: Key, by_address: Key | None) -> None:
        self._repository, self._refused, self._own = repository, refused, own
        self._keys = [own] if by_address is None else [own, by_address]

    async def check(self) -> None:
        """Raise `TooManyRequests` during a pause."""
        if seconds := await self._repository.remaining(self._keys):
            raise self._refusal(seconds)

    async def count(self) -> None:
        """Count the attempt as failed, or as used where every one counts; raise `TooManyRequests` if a pause has begun.

        A pause refuses right and wrong guesses alike: a hundred at once get no more answers than a hundred in a row.
        """
        # Always in this order, so that two attempts never wait for each other crosswise.
        counted = [await self._repository.fail(key) for key in self._keys]
        if not all(counted):
            raise self._refusal(await self._repository.remaining(self._keys))

    async def forget(self) -> None:
        """Clear the account's count after a success, but keep the address's: otherwise anyone with one valid account
        could reset it between guesses.
        """
        await self._repository.forget(self._own)

    def _refusal(self, seconds: int) -> TooManyRequests:
        self._refused.labels(self._own.limit.scope).inc()
        return TooManyRequests(max(seconds, 1))


class Throttles:
    """`key` turns subjects into pseudonyms, so that the table holds neither e-mail nor network addresses."""

    def __init__(
        self,
        repository: ThrottleRepository,
        key: bytes,
        registry: CollectorRegistry,
        *,
        by_address: bool,
    ) -> None:
        self._repository, self._key, self._by_address = repository, key, by_address
        self._refused = Counter(
            "throttled_attempts_total", "Attempts refused during a pause", ["limit"], registry=registry
        )

    def login(self, email: str, device: str | None) -> Attempt:
        """Give a known device a limit of its own, so that guesses from elsewhere do not lock its owner out."""
        if device is not None:
            return self._attempt(_LOGIN_BY_DEVICE, device)
        return self._attempt(_LOGIN, email, _LOGIN_BY_ADDRESS)

    def sign_up(self, email: str) -> Attempt:
        return self._attempt(_SIGN_UP, email, _SIGN_UP_BY_ADDRESS)

    def reset(self, email: str) -> Attempt:
        return self._attempt(_RESET, email, _RESET_BY_ADDRESS)

    def password(self, user_id: UUID) -> Attempt:
        """Limit guesses in a session, apart from those at logins."""
        return self._attempt(_PASSWORD, str(user_id))

    def otp(self, user_id: UUID) -> Attempt:
        """Limit guesses of codes, which need the password or a session."""
        return self._attempt(_OTP, str(user_id))

    def verification(self, user_id: UUID) -> Attempt:
        return self._attempt(_VERIFICATION, str(user_id))

    def _attempt(self, limit: Limit, subject: str, address_limit: Limit | None = None) -> Attempt:
        by_address = None
        if self._by_address and address_limit is not None and (seen := origin.get()) is not None:
            by_address = self._key_of(address_limit, seen.address)
        return Attempt(self._repository, self._refused, self._key_of(limit, subject), by_address)

    def _key_of(self, limit: Limit, subject: str) -> Key:
        return Key(limit, hmac.digest(self._key, subject.encode(), "sha256"))
