"""The types of JSON bodies and query parameters: camelCase structs, and fields with bounds."""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Annotated, Any, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta

from services.kit.errors import BadRequest, FieldError
from services.kit.text import one_line

T = TypeVar("T")

# PostgreSQL refuses NUL in text, and control characters forge log lines and mail headers: no field accepts them. Those
# that change the direction of writing would also turn around the sentence that a name is put into. The look-ahead ends
# the pattern because Python's `$` also matches before a last newline.
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
TEXT_PATTERN = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]*(?![\s\S])"
UNREPRESENTABLE = "Expected an instant in the years 2 to 9998"


def is_representable(instant: datetime) -> bool:
    """Tell whether any time zone has a local time for it, which the first and the last day that Python knows lack.

    Drivers convert to UTC: an overflow there would leave PostgreSQL's connection in the middle of a query.
    """
    return 1 < instant.year < 9999


def representable(instant: datetime) -> datetime:
    """Return the instant; raise ValueError if it is not representable."""
    if not is_representable(instant):
        raise ValueError(UNREPRESENTABLE)
    return instant


def form(normalized: Callable[[Any], Any]) -> Meta:
    """Say of a type which form of its values a `Request` has: `normalized` raises ValueError for one that has none."""
    return Meta(extra={"form": normalized})


Line = Annotated[
    str,
    Meta(min_length=1, max_length=200, pattern=rf"^[^{_CONTROLS}]*[^{_CONTROLS}\x20][^{_CONTROLS}]*(?![\s\S])"),
    form(one_line),
]
Text = Annotated[str, Meta(max_length=2000, pattern=rf"^{TEXT_PATTERN}")]
Instant = Annotated[datetime, Meta(tz=True), form(representable)]
INSTANT = {"format": "date-time"}  # the schema of a query parameter that `parse_instant` reads


class Request(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A body that a client sends: unknown fields are refused, and each field has the form of its type."""

    def __post_init__(self) -> None:
        normalize_fields(self)


def normalize_fields(body: msgspec.Struct) -> None:
    for name, normalized in _forms(type(body)).items():
        value = getattr(body, name)
        if value is not None and value is not UNSET and (stored := normalized(value)) != value:
            msgspec.structs.force_setattr(body, name, stored)


def form_of(annotation: Any) -> Callable[[Any], Any] | None:
    """Return the `form` of a type, also of one that may be absent or null."""
    for one in (annotation, *get_args(annotation)):
        for meta in reversed(getattr(one, "__metadata__", ())):
            if isinstance(meta, Meta) and meta.extra and "form" in meta.extra:
                found: Callable[[Any], Any] = meta.extra["form"]
                return found
    return None


@cache
def _forms(body: type[msgspec.Struct]) -> dict[str, Callable[[Any], Any]]:
    fields = msgspec.structs.fields(body)
    return {field.name: found for field in fields if (found := form_of(field.type)) is not None}


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
