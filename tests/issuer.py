"""Access tokens as auth signs them, for services under test that verify them by a JWKS document."""

import base64
from time import time
from typing import Any
from uuid import UUID, uuid4

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.contracts.enums import Role

ISSUER = AUDIENCE = "booking-platform"


class Issuer:
    """One signing key. `token` makes valid tokens, and by overriding claims or header every kind of bad one."""

    def __init__(self, key_id: str = "test") -> None:
        self.key = Ed25519PrivateKey.generate()
        self.key_id = key_id

    @property
    def public_bytes(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def jwks(self) -> bytes:
        x = base64.urlsafe_b64encode(self.public_bytes).rstrip(b"=").decode()
        key = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.key_id, "x": x}
        return msgspec.json.encode({"keys": [key]})

    def token(
        self,
        user: UUID | None = None,
        role: Role | str = Role.PATIENT,
        *,
        header: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        now = int(time())
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user or uuid4()),
            "role": str(role),
            "sid": str(uuid4()),
            "jti": str(uuid4()),
            "iat": now,
            "exp": now + 600,
            **claims,
        }
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(
            payload, self.key, algorithm="EdDSA", headers={"kid": self.key_id, "typ": "at+jwt", **(header or {})}
        )
