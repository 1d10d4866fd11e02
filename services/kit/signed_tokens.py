"""Tokens that carry a payload and prove that this service made them, so that nothing of them needs to be stored."""

import base64
import binascii
import hmac
from collections.abc import Sequence

_SIGNATURE_BYTES = 32


class SignedTokens:
    """Signs with the first of `keys` and accepts a signature by any of them, so that a key can be replaced."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def issue(self, payload: bytes, context: bytes = b"") -> str:
        """Return the payload and its HMAC-SHA256 as URL-safe base64.

        `context` is signed but not carried, so the reader must supply it again. All contexts used with one key must
        have the same length: only then does a signature tell where the context ends and the payload begins.
        """
        return base64.urlsafe_b64encode(payload + self._signature(self._keys[0], context + payload)).decode()

    def read(self, token: str, context: bytes = b"") -> bytes | None:
        """Return the payload, or None unless `issue` made this token for this context."""
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        payload, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
        if any(hmac.compare_digest(signature, self._signature(key, context + payload)) for key in self._keys):
            return payload
        return None

    @staticmethod
    def _signature(key: bytes, signed: bytes) -> bytes:
        return hmac.digest(key, signed, "sha256")
