"""The secrets of mailed links: derived from the mail's id and never stored."""

import base64
import binascii
import hmac
from uuid import UUID

_ID_BYTES = 16


class LinkTokens:
    """Whoever reads the database, the stream or notification's store finds ids, and can make no token of them."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token_of(self, mail_id: UUID) -> str:
        """64 characters: the id, then its signature."""
        return base64.urlsafe_b64encode(mail_id.bytes + self._signature(mail_id.bytes)).decode()

    def mail_of(self, token: str) -> UUID | None:
        """None when it is none of ours."""
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        id, signature = raw[:_ID_BYTES], raw[_ID_BYTES:]
        return UUID(bytes=id) if hmac.compare_digest(signature, self._signature(id)) else None

    def _signature(self, id: bytes) -> bytes:
        return hmac.digest(self._key, id, "sha256")
