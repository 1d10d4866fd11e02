from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.kit.errors import BadRequest
from services.kit.http.paging import Page, decode_cursor, encode_cursor
from services.kit.schema import Instant


def test_a_page_has_a_cursor_when_there_are_more_items() -> None:
    page = Page.of([1, 2, 3], 2, lambda number: number)
    assert page.items == [1, 2]
    assert decode_cursor(page.next_cursor, int) == 2


@pytest.mark.parametrize("found", [[], [1], [1, 2]])
def test_the_last_page_has_no_cursor(found: list[int]) -> None:
    assert Page.of(found, 2, lambda number: number) == Page(items=found, next_cursor=None)


@pytest.mark.parametrize(
    ("position", "shape"),
    [
        (uuid4(), UUID),
        (2**63 - 1, int),
        ((datetime(2026, 12, 1, 9, 30, 0, 123456, tzinfo=UTC), uuid4()), tuple[Instant, UUID]),
        (("fee", None), tuple[str, str | None]),
    ],
)
def test_a_position_survives_encoding_and_decoding(position: Any, shape: Any) -> None:
    assert decode_cursor(encode_cursor(position), shape) == position


@pytest.mark.parametrize("cursor", [None, ""])
def test_a_missing_cursor_is_no_position(cursor: str | None) -> None:
    assert decode_cursor(cursor, int) is None


@pytest.mark.parametrize(
    ("position", "shape"),
    [
        ("0001-01-01T00:00:00+23:59", Instant),
        ("9999-12-31T23:59:59-23:59", Instant),
        ("2026-12-01T09:30:00", Instant),
        (("2026-12-01T09:30:00", 1), tuple[datetime, int]),
        (2**63, int),
        ((1, -(2**63) - 1), tuple[int, int]),
        (10**40, int),
        ("a\0", str),
        (("a\0",), tuple[str]),
        ("7", int),
        ((7,), int),
        ((1, 2), tuple[int]),
        ((), tuple[int]),
    ],
)
def test_a_cursor_with_a_position_that_no_database_accepts_is_refused(position: Any, shape: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        decode_cursor(encode_cursor(position), shape)
    assert [error.path for error in refused.value.errors or []] == ["cursor"]


@pytest.mark.parametrize("cursor", ["@@", "a", "e30", "bnVsbA", "=", "8J-YgA", "\ud800", "\u00e9"])
def test_a_malformed_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(BadRequest):
        decode_cursor(cursor, int)
