"""The secrets of mailed links: derived from the mail's id and never stored."""

import base64
import binascii
import hmac
from collections.abc import Sequence
from uuid import UUID

_ID_BYTES = 16


class LinkTokens:
    """Whoever reads the database, the stream or notification's store finds ids, and can make no token of them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def token_of(self, mail_id: UUID) -> str:
        """64 characters: the id, then its signature."""
        return base64.urlsafe_b64encode(mail_id.bytes + _signature(self._keys[0], mail_id.bytes)).decode()

    def mail_of(self, token: str) -> UUID | None:
        """None when it is none of ours."""
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        id, signature = raw[:_ID_BYTES], raw[_ID_BYTES:]
        ours = any(hmac.compare_digest(signature, _signature(key, id)) for key in self._keys)
        return UUID(bytes=id) if ours else None


def _signature(key: bytes, id: bytes) -> bytes:
    return hmac.digest(key, id, "sha256")
