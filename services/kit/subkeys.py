"""Keys for separate purposes, derived from the one secret that a service keeps outside its stores."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Subkeys:
    """Keys of the present secret, and of the previous one for as long as that is configured."""

    def __init__(self, secret: str, previous: str | None) -> None:
        self._secrets = [secret] if previous is None else [secret, previous]

    def of(self, purpose: str) -> list[bytes]:
        """Return the key to sign or encrypt with, followed by those that older signatures may have been made with."""
        return [_subkey(secret, purpose) for secret in self._secrets]


def _subkey(secret: str, purpose: str) -> bytes:
    """Derive 256 bits that reveal neither the secret nor the key for another purpose."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(secret.encode())
