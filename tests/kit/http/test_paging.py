from typing import Any
from uuid import UUID, uuid4

import pytest

from services.kit.errors import BadRequest
from services.kit.http.paging import decode_cursor, encode_cursor
from services.kit.http.schema import Instant


def test_a_cursor_is_read_back() -> None:
    id = uuid4()
    cursor = encode_cursor("2026-12-01T09:30:00+00:00", str(id), 2**63 - 1)
    at, found, number = decode_cursor(cursor, tuple[Instant, UUID, int])
    assert (at.isoformat(), found, number) == ("2026-12-01T09:30:00+00:00", id, 2**63 - 1)


@pytest.mark.parametrize(
    ("position", "shape"),
    [
        (("0001-01-01T00:00:00+23:59",), tuple[Instant]),
        (("9999-12-31T23:59:59-23:59",), tuple[Instant]),
        (("2026-12-01T09:30:00",), tuple[Instant]),
        ((2**63,), tuple[int]),
        ((-(2**63) - 1,), tuple[int]),
        ((10**40,), tuple[int]),
        (("a\0",), tuple[str]),
        (("a",), tuple[int]),
        ((1, 2), tuple[int]),
        ((), tuple[int]),
    ],
)
def test_a_position_that_no_database_can_be_asked_for_is_no_cursor(position: tuple[Any, ...], shape: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        decode_cursor(encode_cursor(*position), shape)
    assert [error.path for error in refused.value.errors or []] == ["cursor"]


@pytest.mark.parametrize("cursor", ["@@", "a", "e30", "bnVsbA", "\ud800", "\u00e9"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(BadRequest):
        decode_cursor(cursor, tuple[int])
