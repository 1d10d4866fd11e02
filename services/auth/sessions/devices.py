import secrets
from collections.abc import Sequence
from hashlib import sha256
from time import time
from uuid import UUID

from services.kit.signed_tokens import SignedTokens

_LIFETIME_SECONDS = 180 * 86_400
_TIME_BYTES = 8


class DeviceTokens:
    """Tokens of the devices on which a user has signed in before.

    A token grants nothing: it keeps the guesses of others from counting against the owner of the device. It ends with
    the password that was right when it was issued, and after 180 days.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._tokens = SignedTokens(keys)

    def issue(self, user_id: UUID, password_hash: str) -> str:
        payload = int(time()).to_bytes(_TIME_BYTES) + secrets.token_bytes(8)
        return self._tokens.issue(payload, context=_context(user_id, password_hash))

    def knows(self, token: str, user_id: UUID, password_hash: str) -> bool:
        payload = self._tokens.read(token, context=_context(user_id, password_hash))
        return payload is not None and time() - int.from_bytes(payload[:_TIME_BYTES]) < _LIFETIME_SECONDS


def _context(user_id: UUID, password_hash: str) -> bytes:
    return user_id.bytes + sha256(password_hash.encode()).digest()
