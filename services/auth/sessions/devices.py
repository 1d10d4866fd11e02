"""Tokens of devices that somebody has signed in on before."""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from uuid import UUID

_NONCE_BYTES = 16


class DeviceTokens:
    """They open nothing: they keep guesses that others make from counting against the device's owner."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def issue(self, user_id: UUID) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return base64.urlsafe_b64encode(nonce + _signature(self._keys[0], user_id, nonce)).decode()

    def knows(self, token: str | None, user_id: UUID) -> bool:
        try:
            raw = base64.b64decode(token or "", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return False
        nonce, signature = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
        return any(hmac.compare_digest(signature, _signature(key, user_id, nonce)) for key in self._keys)


def _signature(key: bytes, user_id: UUID, nonce: bytes) -> bytes:
    return hmac.digest(key, user_id.bytes + nonce, "sha256")
