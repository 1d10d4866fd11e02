"""The public holidays of a region, such as DE-BE: an ISO 3166 country, and a subdivision where it has its own."""

import asyncio
import re
from datetime import date
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

import structlog

log = structlog.get_logger("public_holidays")

REGION_PATTERN = r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$"
_REGION = re.compile(REGION_PATTERN)


@lru_cache(maxsize=4096)
def public_holidays(region: str, year: int) -> frozenset[date]:
    """Return the days in a year that are public holidays, or on which one is observed that falls on a weekend.

    A region that an update of the library has dropped has none: its doctors can still be booked.
    """
    if not _is_known(region):
        log.error("the library of public holidays lacks a doctor's region", region=region)
        return frozenset()
    country, _, subdivision = region.partition("-")
    return frozenset(_library().country_holidays(country, subdiv=subdivision or None, years=year, expand=False))


async def is_region(region: str) -> bool:
    """Tell whether the library knows a region, having loaded it for `public_holidays`.

    In a thread, when the first doctor needs it: it loads the modules of all countries, with 11 MB and 0.3 s or more.
    """
    return await asyncio.to_thread(_is_known, region)


def _library() -> Any:
    return import_module("holidays")


@cache
def _is_known(region: str) -> bool:
    holidays = _library()
    country, _, subdivision = region.partition("-")
    if not _REGION.fullmatch(region) or country not in holidays.registry.EntityLoader.get_country_codes(
        include_aliases=False
    ):
        return False
    return not subdivision or subdivision in getattr(holidays, country).subdivisions
