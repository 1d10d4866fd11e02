from collections.abc import Sequence
from uuid import UUID

from services.kit.signed_tokens import SignedTokens


class LinkTokens:
    """The secrets of mailed links, derived from the mail's id and never stored.

    A reader of the database, the stream or notification's store finds ids only, and cannot make a token of one.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._tokens = SignedTokens(keys)

    def token_of(self, mail_id: UUID) -> str:
        """Return 64 characters: the id, then its signature."""
        return self._tokens.issue(mail_id.bytes)

    def mail_of(self, token: str) -> UUID | None:
        """Return the mail's id, or None for a token that this service did not make."""
        payload = self._tokens.read(token)
        return None if payload is None else UUID(bytes=payload)
