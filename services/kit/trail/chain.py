"""A chain of hashes over an audit trail: a seal is the hash of the one before it and of an entry, so that no entry can
be changed, removed or slipped in without every later seal being wrong.
"""

import hashlib
from typing import Any, NamedTuple

import msgspec

SEAL_SECONDS = 1.0
START = bytes(32)
COLUMNS = (
    "seq",
    "at",
    "action",
    "result",
    "code",
    "actor_id",
    "actor_role",
    "session_id",
    "target_type",
    "target_id",
    "address",
    "request_id",
)


def seal(previous: bytes, entry: Any) -> bytes:
    """SHA-256 over the seal before and the entry as a JSON array, in the order of `COLUMNS`."""
    return hashlib.sha256(previous + msgspec.json.encode([entry[name] for name in COLUMNS])).digest()


class Verdict(NamedTuple):
    """`position` and `hash` are those of the last seal; `broken` says what the first wrong link is."""

    position: int
    hash: bytes
    unsealed: int
    broken: str | None

    @property
    def head(self) -> str:
        """What to keep elsewhere: only by it does the loss of the chain's end show."""
        return f"{self.position}:{self.hash.hex()}"


class KnownHead(NamedTuple):
    """A `head` of earlier, which must still be part of the chain."""

    position: int
    hash: str

    @classmethod
    def of(cls, head: str | None) -> "KnownHead":
        position, _, known = (head or "0:").partition(":")
        return cls(int(position), known)
