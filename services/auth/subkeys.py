"""Keys for separate purposes, from the one secret that auth keeps outside its database."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def subkey(secret: str, purpose: str) -> bytes:
    """256 bits that tell nothing of the secret, nor of the key for another purpose."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(secret.encode())
