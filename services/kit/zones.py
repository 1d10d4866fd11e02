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


def is_zone(name: str) -> bool:
    """Tell whether a user may have the zone. `Factory` is of a machine that nobody has told where it is."""
    return name in _names() and name != "Factory"


@cache
def _names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
