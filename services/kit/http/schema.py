"""The types of JSON bodies and query parameters: camelCase structs, and fields with bounds."""

from datetime import datetime
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from services.kit.errors import BadRequest, FieldError

T = TypeVar("T")

# PostgreSQL refuses NUL in text, and control characters forge log lines and mail headers: no field accepts them.
# The look-ahead ends the pattern because Python's `$` also matches before a last newline.
Line = Annotated[
    str,
    Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*(?![\s\S])"),
]
Text = Annotated[str, Meta(max_length=2000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*(?![\s\S])")]
Instant = Annotated[datetime, Meta(tz=True)]  # in a `Request`, a query or a cursor also `is_representable`
INSTANT = {"format": "date-time"}  # the schema of a query parameter that `parse_instant` reads


class Request(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A body that a client sends: unknown fields are refused, and instants that not every system can represent."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if isinstance(value := getattr(self, name), datetime) and not is_representable(value):
                raise ValueError(UNREPRESENTABLE)


def is_representable(instant: datetime) -> bool:
    """Tell whether any time zone has a local time for it, which the first and the last day that Python knows lack.

    Drivers convert to UTC: an overflow there would leave PostgreSQL's connection in the middle of a query.
    """
    return 1 < instant.year < 9999


UNREPRESENTABLE = "Expected an instant in the years 2 to 9998"


class Wire(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    """A body that the platform sends."""


def parse_instant(text: str | None, name: str) -> datetime | None:
    """Parse a query parameter as an RFC 3339 instant. Litestar itself would accept naive times and epoch numbers."""
    if text is None:
        return None
    try:
        instant = msgspec.convert(text, Instant)
    except msgspec.ValidationError:
        message = "Expected an RFC 3339 instant such as 2026-12-01T09:30:00Z"
        raise BadRequest(errors=[FieldError(name, message)]) from None
    if not is_representable(instant):
        raise BadRequest(errors=[FieldError(name, UNREPRESENTABLE)])
    return instant
