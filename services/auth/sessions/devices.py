"""Tokens of devices that somebody has signed in on before."""

import base64
import binascii
import hmac
import secrets
from uuid import UUID

_NONCE_BYTES = 16


class DeviceTokens:
    """They open nothing: they keep guesses that others make from counting against the device's owner."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, user_id: UUID) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return base64.urlsafe_b64encode(nonce + self._signature(user_id, nonce)).decode()

    def knows(self, token: str | None, user_id: UUID) -> bool:
        try:
            raw = base64.b64decode(token or "", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return False
        nonce, signature = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
        return hmac.compare_digest(signature, self._signature(user_id, nonce))

    def _signature(self, user_id: UUID, nonce: bytes) -> bytes:
        return hmac.digest(self._key, user_id.bytes + nonce, "sha256")
