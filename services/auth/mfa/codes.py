"""One-time codes (RFC 6238), and recovery codes for a lost device."""

import base64
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import Self
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from services.kit.subkeys import Subkeys

# Every authenticator app takes these; some ignore other parameters.
_DIGITS = 6
_STEP_SECONDS = 30
_SECRET_BYTES = 20
# Accept the previous and the next code too: clocks differ, and people type slowly.
_STEPS = (-1, 0, 1)
_RECOVERY_CODES = 10
_RECOVERY_BYTES = 10
_NONCE_BYTES = 12


def new_secret() -> bytes:
    return secrets.token_bytes(_SECRET_BYTES)


def as_text(secret: bytes) -> str:
    return base64.b32encode(secret).decode()


def as_uri(secret: bytes, email: str, issuer: str) -> str:
    """Return the content of the QR code for an authenticator app."""
    return _totp(secret).get_provisioning_uri(email, issuer)


def step_of(code: str, secret: bytes, now: float) -> int | None:
    """Return the step of 30 s that `code` belongs to, None for a wrong one. Accept no earlier step after it."""
    present, code = int(now) // _STEP_SECONDS, _plain(code)
    for step in (present + offset for offset in _STEPS):
        if hmac.compare_digest(_totp(secret).generate(step * _STEP_SECONDS), code.encode()):
            return step
    return None


def new_recovery_codes() -> list[str]:
    """Return ten codes of 80 random bits, each in four groups of lower-case letters and digits."""
    texts = [base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode().lower() for _ in range(_RECOVERY_CODES)]
    return ["-".join(text[i : i + 4] for i in range(0, len(text), 4)) for text in texts]


class FactorSecrets:
    """Encrypts secrets and hashes recovery codes, so that access to the database alone does not help an attacker."""

    def __init__(self, encryption_keys: Sequence[bytes], hash_keys: Sequence[bytes]) -> None:
        self._ciphers, self._hash_keys = [AESGCM(key) for key in encryption_keys], hash_keys

    @classmethod
    def of(cls, subkeys: Subkeys) -> Self:
        return cls(subkeys.of("second factors"), subkeys.of("recovery codes"))

    def encrypted(self, secret: bytes, user_id: UUID) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, secret, user_id.bytes)

    def decrypted(self, encrypted: bytes, user_id: UUID) -> bytes | None:
        """Return None for the secret of another account, or one under a key that is not configured."""
        found = (_decrypted(cipher, encrypted, user_id) for cipher in self._ciphers)
        return next((secret for secret in found if secret is not None), None)

    def reencrypted(self, encrypted: bytes, user_id: UUID) -> bytes:
        """Encrypt under the present key what is under the previous one, so that the operator can drop that."""
        if (
            _decrypted(self._ciphers[0], encrypted, user_id) is None
            and (secret := self.decrypted(encrypted, user_id)) is not None
        ):
            return self.encrypted(secret, user_id)
        return encrypted

    def hashes_of(self, recovery_code: str, user_id: UUID) -> list[bytes]:
        """Return the hash by each key, the present key's first."""
        plain = _plain(recovery_code)
        return [hmac.digest(key, user_id.bytes + plain.encode(), "sha256") for key in self._hash_keys]


def _plain(code: str) -> str:
    """Return a code without what apps and people put into it to read it in groups."""
    return re.sub(r"[\s-]", "", code).lower()


def _decrypted(cipher: AESGCM, encrypted: bytes, user_id: UUID) -> bytes | None:
    try:
        return cipher.decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], user_id.bytes)
    except InvalidTag:
        return None


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret, _DIGITS, SHA1(), _STEP_SECONDS)  # noqa: S303 # nosec B303
