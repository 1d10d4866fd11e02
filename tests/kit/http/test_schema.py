"""Query parameters, and the instants that a database can store."""

from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest

from tests.kit.http.notes import note
from tests.kit.http.services import assert_problem, doctor


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("since=2026-12-01T09:30:00", "since"),
        ("since=1700000000", "since"),
        ("since=now", "since"),
        ("since=0001-01-01T00:00:00%2B23:59", "since"),
        ("since=9999-12-31T23:59:59-23:59", "since"),
        (f"cursor={'x' * 2001}", "cursor"),
    ],
)
async def test_a_wrong_query_parameter_is_named(client: httpx.AsyncClient, query: str, path: str) -> None:
    response = await client.get(f"/api/notes?{query}")
    assert [error["path"] for error in assert_problem(response, 400, "invalid_request")["errors"]] == [path]


async def test_a_nul_in_the_query_is_400(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/api/notes?since=%00"), 400, "invalid_request")


async def test_bytes_in_the_query_that_are_not_utf_8_are_400_or_ignored(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/notes?since=%ff%fe")).status_code == 400
    assert (await client.get("/api/notes?other=%ff")).status_code == 200


@pytest.mark.parametrize("instant", ["0002-01-01T00:00:00+23:59", "9998-12-31T23:59:59-23:59"])
async def test_the_first_and_the_last_instant_are_representable_in_utc(client: httpx.AsyncClient, instant: str) -> None:
    assert (await client.get("/api/notes", params={"since": instant})).status_code == 200
    response = await client.post(f"/api/notes/{uuid4()}", json=note(at=instant), headers=doctor())
    assert response.status_code == 201
    datetime.fromisoformat(instant).astimezone(UTC)


async def test_an_instant_in_the_query_is_read(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/notes", params={"since": "2026-12-01T09:30:00+01:00", "limit": 7})
    assert response.json()["items"] == ["2026-12-01 09:30:00+01:00", "7"]
