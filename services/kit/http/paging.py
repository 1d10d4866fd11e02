"""Keyset pages: a list's parameters, its answer, and the opaque cursor between one page and the next."""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from litestar.params import QueryParameter
from msgspec import Meta

from services.kit.errors import BadRequest, FieldError
from services.kit.schema import is_representable

T = TypeVar("T")

Limit = Annotated[int, QueryParameter(ge=1, le=100, description="Maximum number of items in the response")]
Cursor = Annotated[str | None, QueryParameter(max_length=2000, description="`nextCursor` of the previous page")]


class Page(msgspec.Struct, Generic[T], rename="camel", kw_only=True, frozen=True):
    items: list[T]
    next_cursor: Annotated[str, Meta(examples=["WyIyMDI2LTEyLTAxIl0"])] | None

    @classmethod
    def of(cls, found: Sequence[T], limit: int, key: Callable[[T], Any]) -> "Page[T]":
        """Make a page of the first `limit` of `found`, which is one longer when there is another page.

        `key` returns an item's position in the list's order: a value, or a tuple of values.
        """
        last = found[limit - 1] if len(found) > limit else None
        return Page(items=list(found[:limit]), next_cursor=None if last is None else encode_cursor(key(last)))


def encode_cursor(position: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str | None, shape: type[T]) -> T | None:
    """Return the position that `encode_cursor` wrote, or None without a cursor.

    Raise `BadRequest` for anything else, and for what a store cannot be asked for: a NUL, an integer beyond 64 bits, an
    instant without a zone or out of range.
    """
    if not cursor:
        return None
    try:
        raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        position = msgspec.json.decode(raw, type=shape)
        if b"\\u0000" in raw or not all(map(_is_storable, position if isinstance(position, tuple) else [position])):
            raise ValueError
        return position
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise BadRequest(errors=[FieldError("cursor", "Not a cursor of this list")]) from None


def _is_storable(value: object) -> bool:
    if isinstance(value, datetime):
        return value.tzinfo is not None and is_representable(value)
    return not isinstance(value, int) or -(2**63) <= value < 2**63
