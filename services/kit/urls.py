"""Checks of URLs in settings. Each raises `ValueError` with what is wrong, but without any part of the URL."""

from typing import Any
from urllib.parse import SplitResult, urlsplit

from redis.asyncio import ConnectionPool

_PORT = "a port is a number to 65535, and `@`, `:` and `/` in a user or password have to be percent-encoded"


def check_http_url(url: str) -> None:
    parts = _split(url)
    if parts.query or parts.fragment:
        raise ValueError("it has a query or a fragment")


def check_redis_url(url: str) -> None:
    database = _split(url).path.removeprefix("/")
    if database and not (database.isascii() and database.isdecimal()):
        raise ValueError("its path is not the number of a database")
    try:
        pool: Any = ConnectionPool.from_url(url)
        pool.make_connection()  # which connects only when it is used
    except (TypeError, ValueError):
        raise ValueError("redis-py does not know one of its parameters or cannot read its value") from None


def _split(url: str) -> SplitResult:
    """Split the URL of one host."""
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets of which one is missing
        raise ValueError("its host is malformed") from None
    if parts.fragment or parts.netloc.count("@") > 1:
        raise ValueError("`@`, `#` and `?` in a user or password have to be percent-encoded, as %40 is `@`")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(_PORT) from None
    if port == 0:
        raise ValueError(_PORT)
    if not parts.hostname:
        raise ValueError("it names no host")
    return parts
