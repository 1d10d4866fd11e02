"""The fields by which a request asks for time."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from services.kit.schema import Instant, form, representable

DEFAULT_MINUTES = 30
Duration = Annotated[int, Meta(ge=5, le=480, description="Minutes", examples=[30])]


def _whole_minute(starts_at: datetime) -> datetime:
    """Return the start; raise ValueError for one that would take a minute of the time before or after."""
    if starts_at.second or starts_at.microsecond:
        raise ValueError("Expected a whole minute")
    return representable(starts_at)


StartsAt = Annotated[Instant, Meta(examples=["2026-12-01T09:30:00Z"]), form(_whole_minute)]
