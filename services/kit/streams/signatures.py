"""Signatures of events prove that the writing service made an entry, and not another client of Redis."""

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature

SIGNATURE = "signature"
_SIGNED = ("id", "type", "aggregateid", "version", "payload", "created_at")

Sign = Callable[[bytes], tuple[str, bytes]]
FindKey = Callable[[str], Awaitable[Any]]


class ForgedEvent(Exception):
    """The entry has no signature, or one that none of the writer's published keys made."""


def signed_bytes(stream: str, fields: Mapping[str, str]) -> bytes:
    """Encode every field that has an effect, and the stream, so that an entry is not valid in another stream.

    The same key signs access tokens, whose signing input never begins with the byte that this begins with.
    """
    return b"\0event" + msgspec.json.encode([stream, *(fields.get(name) for name in _SIGNED)])


def signature_of(stream: str, fields: Mapping[str, str], sign: Sign) -> str:
    """Return `<key id>.<signature in base64url>`; `sign` returns the id of its key and the raw signature."""
    key_id, signature = sign(signed_bytes(stream, fields))
    return f"{key_id}.{base64.urlsafe_b64encode(signature).decode()}"


async def unchecked(_: Mapping[str, str]) -> None:
    """Accept every entry of a stream whose writer does not sign."""


class SignatureVerifier:
    """Check entries with public keys; `find_key` returns one by its id, or None when it was never published."""

    def __init__(self, stream: str, find_key: FindKey) -> None:
        self._stream, self._find_key = stream, find_key

    async def check(self, fields: Mapping[str, str]) -> None:
        """Raise `ForgedEvent`, or what `find_key` raises while the keys are unavailable."""
        key_id, dot, signature = fields.get(SIGNATURE, "").rpartition(".")
        key = await self._find_key(key_id) if dot else None
        if key is None:
            raise ForgedEvent("The signature is missing, or made by an unknown key")
        try:
            key.verify(base64.urlsafe_b64decode(signature), signed_bytes(self._stream, fields))
        except (InvalidSignature, ValueError):
            raise ForgedEvent("The signature does not fit") from None
