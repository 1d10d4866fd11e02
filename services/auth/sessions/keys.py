"""The keys that sign access tokens: a private JWKS file, shared by all replicas and replaced as a whole."""

import os
import secrets
from itertools import pairwise
from pathlib import Path
from time import monotonic, time
from typing import Annotated, Literal

import jwt
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.utils import base64url_encode
from msgspec import Meta

log = structlog.get_logger("keys")

# By then the file has to be in place everywhere, and all have asked for its keys: an operator copies it, a kubelet
# brings a changed Secret into its pods within 90 s, verifiers ask every 30 s. A replica that signs by a key which
# another does not publish yet has its tokens refused, so all go by the time at which the key was made.
ACTIVATION_SECONDS = 300
# The longest that an access token may be valid: its life, the verifiers' leeway of 30 s, and clocks that differ.
LONGEST_VALID_SECONDS = 900 + 300
# A consumer that was down for longer than this, over a rotation, has dead letters to replay after a `republish`.
RETIRED_SECONDS = 30 * 86_400
_LOOK_SECONDS = 5.0
_Stamp = tuple[int, int, int]


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    kid: Annotated[str, Meta(min_length=1, max_length=100)]
    x: str
    d: str
    iat: int

    @classmethod
    def generate(cls) -> "SigningKey":
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return cls(
            kid=secrets.token_urlsafe(12),
            x=base64url_encode(public).decode(),
            d=base64url_encode(private).decode(),
            iat=int(time()),
        )

    def private(self) -> Ed25519PrivateKey:
        key: Ed25519PrivateKey = jwt.PyJWK(msgspec.to_builtins(self)).key
        return key


class RetiredKey(msgspec.Struct, frozen=True, kw_only=True):
    """The public half of a key that signed events which a consumer may not have read yet."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    kid: Annotated[str, Meta(min_length=1, max_length=100)]
    x: str
    retired_at: int


class KeyFile(msgspec.Struct, frozen=True):
    keys: Annotated[list[SigningKey], Meta(min_length=1)]
    retired: list[RetiredKey] = []


class UnreadableKeys(Exception):
    """The message is for the operator, and has nothing of the content."""


class SigningKeys:
    """Reads the file again when it has changed. One that has become unreadable leaves the keys as they were."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked_at = monotonic()
        self._stamp, file = _read(path)
        self._adopt(file)

    def signer(self) -> tuple[str, Ed25519PrivateKey]:
        """The newest key that all verifiers know by now, or else the oldest there is."""
        self._look()
        known = [key for key in self._keys if key.iat + ACTIVATION_SECONDS <= time()]
        chosen = known[-1] if known else self._keys[0]
        return chosen.kid, self._private[chosen.kid]

    def sign(self, data: bytes) -> tuple[str, bytes]:
        """The id of the key, and its signature of `data`."""
        key_id, key = self.signer()
        return key_id, key.sign(data)

    @property
    def public_document(self) -> bytes:
        self._look()
        return self._public

    def _look(self) -> None:
        if monotonic() - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = monotonic()
        try:
            if _stamp(self._path) != self._stamp:
                self._stamp, file = _read(self._path)
                self._adopt(file)
                log.info("signing keys read again", keys=len(self._keys))
        except (OSError, UnreadableKeys) as error:
            log.error("signing keys cannot be read, the ones known stay in use", error=type(error).__name__)

    def _adopt(self, file: KeyFile) -> None:
        self._private = {key.kid: key.private() for key in file.keys}
        self._keys = file.keys
        self._public = msgspec.json.encode(
            {"keys": [_published(key) for key in file.keys], "retired": [_published(key) for key in file.retired]}
        )


def _published(key: SigningKey | RetiredKey) -> dict[str, str]:
    return {"kty": key.kty, "crv": key.crv, "kid": key.kid, "x": key.x, "alg": "EdDSA", "use": "sig"}


def rotate(path: Path) -> tuple[str, int]:
    """Add a key and drop those that no valid token is signed by any more; gives the new id and how many were dropped.

    A new key signs when it is `ACTIVATION_SECONDS` old, the very first one at once.
    """
    now = int(time())
    file = _read(path)[1] if path.exists() else None
    keys = file.keys if file else []
    kept = [
        key for key, successor in pairwise(keys) if successor.iat + ACTIVATION_SECONDS + LONGEST_VALID_SECONDS > now
    ] + keys[-1:]
    retired = [key for key in (file.retired if file else []) if key.retired_at + RETIRED_SECONDS > now]
    retired += [RetiredKey(kid=key.kid, x=key.x, retired_at=now) for key in keys if key not in kept]
    new = SigningKey.generate()
    _write(path, KeyFile([*kept, new], retired))
    return new.kid, len(keys) - len(kept)


def _read(path: Path) -> tuple[_Stamp, KeyFile]:
    """The file with its keys from the oldest to the newest, all of which can sign."""
    try:
        stamp = _stamp(path)  # before the content: a change in between is then seen at the next look
        file = msgspec.json.decode(path.read_bytes(), type=KeyFile)
        for key in file.keys:
            key.private()
    except (OSError, msgspec.MsgspecError, jwt.PyJWTError, ValueError) as error:
        raise UnreadableKeys(f"{path} is no readable file of private signing keys") from error
    return stamp, KeyFile(sorted(file.keys, key=lambda key: key.iat), file.retired)


def _write(path: Path, file: KeyFile) -> None:
    """Whole or not at all, and never readable by others, not even while it is written."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(msgspec.json.format(msgspec.json.encode(file), indent=2))
        opened.flush()
        os.fsync(opened.fileno())
    draft.replace(path)


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
