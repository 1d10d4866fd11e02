"""Keyset pages."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from litestar.params import QueryParameter
from msgspec import Meta

from services.kit.errors import BadRequest, FieldError
from services.kit.http.schema import is_representable

T = TypeVar("T")
P = TypeVar("P", bound=tuple[Any, ...])

Limit = Annotated[int, QueryParameter(ge=1, le=100, description="How many items to answer with")]
Cursor = Annotated[str | None, QueryParameter(max_length=2000, description="`nextCursor` of the page before this one")]


class Page(msgspec.Struct, Generic[T], rename="camel", kw_only=True, frozen=True):
    items: list[T]
    next_cursor: Annotated[str, Meta(examples=["WyIyMDI2LTEyLTAxIl0"])] | None


def encode_cursor(*position: str | int | float | None) -> str:
    """The keyset position of the last row of a page, opaque to clients."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str, shape: type[P]) -> P:
    """Read back what `encode_cursor` wrote.

    Anything else is a 400: also a NUL, an integer beyond 64 bits and an instant that no database could be asked for.
    """
    try:
        raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        if b"\\u0000" in raw:
            raise ValueError
        position: P = msgspec.json.decode(raw, type=shape)
        if not all(map(_is_storable, position)):
            raise ValueError
        return position
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise BadRequest(errors=[FieldError("cursor", "Not a cursor of this list")]) from None


def _is_storable(value: object) -> bool:
    if isinstance(value, datetime):
        return value.tzinfo is not None and is_representable(value)
    return not isinstance(value, int) or -(2**63) <= value < 2**63
