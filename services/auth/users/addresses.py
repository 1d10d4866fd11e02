"""The one form in which an e-mail address is stored, looked up, throttled and compared."""

from typing import Any
from unicodedata import normalize

import msgspec


def canonical(email: str) -> str:
    """Return the address in lower case and NFC.

    Made here and never by the database: PostgreSQL's `lower()` and Python's differ on letters such as U+0130, so that
    an address written with one of them found the account, and was throttled as a different address.
    """
    return normalize("NFC", normalize("NFC", email).lower())


def canonicalize(body: Any) -> None:
    """The `__post_init__` of a struct with an `email`."""
    if isinstance(body.email, str):
        msgspec.structs.force_setattr(body, "email", canonical(body.email))
