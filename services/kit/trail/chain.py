"""A chain of hashes over an audit trail.

A seal is the hash of the seal before it and of an entry, so that changing, removing or inserting an entry makes every
later seal wrong.
"""

import hashlib
from typing import Any, NamedTuple

import msgspec

SEAL_SECONDS = 1.0
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


class Head(NamedTuple):
    """The last seal of a chain, or of the part of it that was removed."""

    position: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.position}:{self.hash.hex()}"


BEGINNING = Head(0, bytes(32))


def sealed_bytes(entry: Any) -> bytes:
    """Encode an entry as it is sealed: a JSON array in the order of `COLUMNS`."""
    return msgspec.json.encode([entry[name] for name in COLUMNS])


def next_hash(previous: bytes, entry: Any) -> bytes:
    """Return the SHA-256 of the seal before and of the entry's `sealed_bytes`."""
    return hashlib.sha256(previous + sealed_bytes(entry)).digest()
