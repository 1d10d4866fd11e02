"""Access tokens as auth signs them, for services under test that verify them with a JWKS document."""

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

    def __init__(self, key_id: str = "test", key: Ed25519PrivateKey | None = None) -> None:
        self.key = key or Ed25519PrivateKey.generate()
        self.key_id = key_id

    @property
    def public_bytes(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def jwks(self) -> bytes:
        x = base64.urlsafe_b64encode(self.public_bytes).rstrip(b"=").decode()
        key = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.key_id, "x": x}
        return msgspec.json.encode({"keys": [key]})

    def sign(self, data: bytes) -> tuple[str, bytes]:
        return self.key_id, self.key.sign(data)

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


def bad_tokens(issuer: Issuer) -> dict[str, str]:
    """Return tokens by their flaw. `issuer` holds the key that the services trust."""
    other, now = Issuer(issuer.key_id), int(time())
    good = issuer.token()
    head, body, signature = good.split(".")
    public_key = issuer.public_bytes
    hmac_key = public_key + b"\0" * 32
    claims = jwt.decode(good, options={"verify_signature": False})
    header = {"kid": issuer.key_id, "typ": "at+jwt"}
    none = msgspec.json.encode({"alg": "none", **header})
    none_header = base64.urlsafe_b64encode(none).rstrip(b"=").decode()
    return {
        "empty": "",
        "not a token": "abc",
        "two parts": f"{head}.{body}",
        "no signature": f"{head}.{body}.",
        "algorithm none": f"{none_header}.{body}.",
        "HS256 by the public key": jwt.encode(claims, hmac_key, algorithm="HS256", headers=header),
        "signed by another key": other.token(),
        "changed body": f"{head}.{body[:-4]}AAAA.{signature}",
        "changed signature": f"{head}.{body}.{signature[:-6]}AAAAAA",
        "expired": issuer.token(iat=now - 1000, exp=now - 31),
        "not yet valid": issuer.token(nbf=now + 86_400),
        "issued in the future": issuer.token(iat=now + 86_400),
        "no expiry": issuer.token(exp=None),
        "expiry is text": issuer.token(exp="tomorrow"),
        "wrong issuer": issuer.token(iss="another-platform"),
        "wrong audience": issuer.token(aud="another-audience"),
        "no subject": issuer.token(sub=None),
        "subject is no id": issuer.token(sub="1"),
        "no session": issuer.token(sid=None),
        "session is no id": issuer.token(sid="1"),
        "typ of a refresh token": issuer.token(header={"typ": "rt+jwt"}),
        "typ JWT": issuer.token(header={"typ": "JWT"}),
        "unknown kid": issuer.token(header={"kid": "other"}),
        "kid of another folder": issuer.token(header={"kid": "../../etc/passwd"}),
        "kid is SQL": issuer.token(header={"kid": "' OR 1=1 --"}),
        "key in the header": other.token(header={"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AA"}}),
        "key address in the header": other.token(header={"jku": "https://keys.example.com/jwks.json"}),
        "certificate address in the header": other.token(header={"x5u": "https://keys.example.com/cert.pem"}),
        "too long": good + "A" * 5000,
        "not ASCII": "é.é.é",
    }
