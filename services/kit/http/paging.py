"""Keyset pages."""

import base64
import binascii
from typing import Annotated, Generic, TypeVar

import msgspec
from litestar.params import QueryParameter
from msgspec import Meta

from services.kit.errors import BadRequest, FieldError

T = TypeVar("T")

Limit = Annotated[int, QueryParameter(ge=1, le=100, description="How many items to answer with")]
Cursor = Annotated[str | None, QueryParameter(max_length=2000, description="`nextCursor` of the page before this one")]


class Page(msgspec.Struct, Generic[T], rename="camel", kw_only=True, frozen=True):
    items: list[T]
    next_cursor: Annotated[str, Meta(examples=["WyIyMDI2LTEyLTAxIl0"])] | None


def encode_cursor(*position: str | int | float | None) -> str:
    """The keyset position of the last row of a page, opaque to clients."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str, shape: type[T]) -> T:
    """Read back what `encode_cursor` wrote; anything else, a NUL in it included, is a 400."""
    try:
        raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        if b"\\u0000" in raw:
            raise ValueError
        return msgspec.json.decode(raw, type=shape)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise BadRequest(errors=[FieldError("cursor", "Not a cursor of this list")]) from None
