"""Errors become problem documents."""

import httpx
import pytest

from tests.kit.http.services import assert_problem, doctor


@pytest.mark.parametrize("path", ["/api/notes/not-an-id", "/api/nothing", "/", "/api/notes/%00"])
async def test_an_unknown_path_is_404(client: httpx.AsyncClient, path: str) -> None:
    assert_problem(await client.post(path, headers=doctor()), 404, "not_found")


async def test_a_method_that_a_path_does_not_have_is_405_with_those_that_it_has(client: httpx.AsyncClient) -> None:
    response = await client.delete("/api/notes")
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET"


async def test_an_unhandled_exception_reveals_nothing(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/broken")
    assert_problem(response, 500, "internal_error")
    assert "SELECT" not in response.text


async def test_an_error_carries_its_own_members(client: httpx.AsyncClient) -> None:
    problem = assert_problem(await client.get("/api/taken"), 409, "conflict")
    assert (problem["detail"], problem["alternatives"]) == ("Taken by another note", ["a", "b"])


async def test_an_error_carries_its_headers(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/limited")).headers["retry-after"] == "7"
