import hashlib
import hmac
import secrets
from time import time
from uuid import UUID

import jwt
import msgspec
from uuid_utils.compat import uuid7

from services.auth.sessions.keys import SigningKeys
from services.contracts.enums import Role
from services.contracts.tokens import AccessClaims
from services.kit.auth import ALGORITHM, TOKEN_TYPE


class AccessTokens:
    def __init__(self, keys: SigningKeys, *, issuer: str, audience: str, seconds: int) -> None:
        self._keys, self._issuer, self._audience = keys, issuer, audience
        self.seconds = seconds

    def issue(self, user_id: UUID, role: Role, session_id: UUID) -> str:
        now = int(time())
        claims = AccessClaims(
            iss=self._issuer,
            aud=self._audience,
            sub=user_id,
            role=role,
            sid=session_id,
            iat=now,
            exp=now + self.seconds,
            jti=uuid7(),
        )
        key_id, key = self._keys.signer()
        headers = {"typ": TOKEN_TYPE, "kid": key_id}
        return jwt.encode(msgspec.to_builtins(claims), key, algorithm=ALGORITHM, headers=headers)


def new_refresh_token() -> str:
    return secrets.token_urlsafe(32)


def successor_of(refresh_token: str, successor_key: bytes) -> str:
    """Derived and not drawn, so that a retry after a lost reply gets the same token though only its hash is kept."""
    return jwt.utils.base64url_encode(hmac.digest(successor_key, refresh_token.encode(), "sha256")).decode()


def hash_of(refresh_token: str) -> bytes:
    """One fast round is enough: the tokens have 256 random bits."""
    return hashlib.sha256(refresh_token.encode()).digest()
