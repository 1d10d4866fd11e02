"""Time zones, always from the pinned tzdata package: zoneinfo would prefer the host's copy, often years old."""

import zoneinfo
from functools import cache
from importlib.metadata import version
from zoneinfo import ZoneInfo

from services.kit.errors import BadRequest, FieldError

zoneinfo.reset_tzpath(())
TZDATA_VERSION = version("tzdata")


@cache
def zone(name: str, field: str = "timeZone") -> ZoneInfo:
    """Return the IANA zone `name`; raise `BadRequest` for `field` when there is none."""
    if name not in _names():
        raise BadRequest(errors=[FieldError(field, "Expected an IANA time zone such as Europe/Berlin")])
    return ZoneInfo(name)


def chosen_zone(name: str) -> str:
    """Return the name; raise ValueError unless a user may choose it. `Factory` is of a machine in no place."""
    if name not in _names() or name == "Factory":
        raise ValueError("Expected an IANA time zone such as Europe/Berlin")
    return name


@cache
def _names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
