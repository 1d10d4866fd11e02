"""A chain of hashes over an audit trail.

A seal is the hash of the seal before it and of an entry, so that changing, removing or inserting an entry makes every
later seal wrong.
"""

import hashlib
from typing import Any

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


def next_hash(previous: bytes, entry: Any) -> bytes:
    """Return the SHA-256 of the seal before and the entry as a JSON array, in the order of `COLUMNS`."""
    return hashlib.sha256(previous + msgspec.json.encode([entry[name] for name in COLUMNS])).digest()
