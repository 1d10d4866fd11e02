import secrets
from collections.abc import Sequence
from uuid import UUID

from services.kit.signed_tokens import SignedTokens


class DeviceTokens:
    """Tokens of the devices on which a user has signed in before.

    A token grants nothing: it keeps the guesses of others from counting against the owner of the device.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._tokens = SignedTokens(keys)

    def issue(self, user_id: UUID) -> str:
        return self._tokens.issue(secrets.token_bytes(16), context=user_id.bytes)

    def knows(self, token: str | None, user_id: UUID) -> bool:
        return token is not None and self._tokens.read(token, context=user_id.bytes) is not None
