"""Keys for separate purposes, from the one secret that auth keeps outside its database."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Subkeys:
    """Of the present secret, and of the one before it while that is still known."""

    def __init__(self, secret: str, previous: str | None) -> None:
        self._secrets = [secret] if previous is None else [secret, previous]

    def of(self, purpose: str) -> list[bytes]:
        """The one to make things with, then those that things may have been made with."""
        return [_subkey(secret, purpose) for secret in self._secrets]


def _subkey(secret: str, purpose: str) -> bytes:
    """256 bits that tell nothing of the secret, nor of the key for another purpose."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(secret.encode())
