"""What an access token says (RFC 9068)."""

from uuid import UUID

import msgspec

from services.contracts.enums import Role


class AccessClaims(msgspec.Struct, frozen=True, kw_only=True):
    """The payload. That it is an access token stands in the JOSE header, `typ: at+jwt`, beside `alg` and `kid`.

    `iat` and `exp` are seconds since the epoch; `sid` is the session, by which a token is revoked before it expires.
    """

    iss: str
    aud: str
    sub: UUID
    role: Role
    sid: UUID
    iat: int
    exp: int
    jti: UUID
