"""The claims of an access token (RFC 9068)."""

from uuid import UUID

import msgspec

from services.contracts.enums import Role


class AccessClaims(msgspec.Struct, frozen=True, kw_only=True):
    """The payload; the JOSE header holds `typ: at+jwt`, `alg` and `kid`.

    `iat` and `exp` are seconds since the epoch. `sid` is the session: revoking it revokes the token before it expires.
    """

    iss: str
    aud: str
    sub: UUID
    role: Role
    sid: UUID
    iat: int
    exp: int
    jti: UUID
