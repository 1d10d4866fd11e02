"""Time zones, always from the pinned tzdata package: zoneinfo prefers the host's copy, which is often years old."""

import zoneinfo
from functools import cache
from importlib.metadata import version
from zoneinfo import ZoneInfo

from services.kit.errors import BadRequest, FieldError

zoneinfo.reset_tzpath(())
TZDATA_VERSION = version("tzdata")


@cache
def zone(name: str, field: str = "timeZone") -> ZoneInfo:
    """The IANA zone of that name; raises `BadRequest` naming `field` where there is none."""
    if name not in _names():
        raise BadRequest(errors=[FieldError(field, "Expected an IANA time zone such as Europe/Berlin")])
    return ZoneInfo(name)


@cache
def _names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
