"""Signatures of events: they show that the writing service made an entry, and not anyone else who reaches Redis."""

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
    """The entry has no signature, or one that no published key of the writer made."""


def signed_bytes(stream: str, fields: Mapping[str, str]) -> bytes:
    """Everything of an entry that has an effect, and the stream, so that no entry can be carried into another one.

    The first byte is none that a token's signing input begins with: the same key signs both.
    """
    return b"\0event" + msgspec.json.encode([stream, *(fields.get(name) for name in _SIGNED)])


def signature_of(stream: str, fields: Mapping[str, str], sign: Sign) -> str:
    """`<key id>.<signature>`, the signature in base64url; `sign` gives the id of its key and the raw signature."""
    key_id, signature = sign(signed_bytes(stream, fields))
    return f"{key_id}.{base64.urlsafe_b64encode(signature).decode()}"


async def unchecked(_: Mapping[str, str]) -> None:
    """Take every entry of a stream that its writer does not sign."""


class SignatureVerifier:
    """Checks entries by the public keys that `find_key` gives by their id: None for one that was never published."""

    def __init__(self, stream: str, find_key: FindKey) -> None:
        self._stream, self._find_key = stream, find_key

    async def check(self, fields: Mapping[str, str]) -> None:
        """Raises `ForgedEvent`, or whatever `find_key` raises while the keys cannot be had."""
        key_id, dot, signature = fields.get(SIGNATURE, "").rpartition(".")
        key = await self._find_key(key_id) if dot else None
        if key is None:
            raise ForgedEvent("The signature is missing, or made by an unknown key")
        try:
            key.verify(base64.urlsafe_b64decode(signature), signed_bytes(self._stream, fields))
        except (InvalidSignature, ValueError):
            raise ForgedEvent("The signature does not fit") from None
