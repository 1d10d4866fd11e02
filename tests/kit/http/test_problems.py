"""Errors become problem documents."""

import re
from uuid import uuid4

import httpx
import pytest

from tests.kit.http.notes import note
from tests.kit.http.services import assert_problem, doctor

NOTE = f"/api/notes/{uuid4()}"


@pytest.mark.parametrize("path", ["/api/notes/not-an-id", "/api/nothing", "/", "/api/notes/%00"])
async def test_an_unknown_path_is_404(client: httpx.AsyncClient, path: str) -> None:
    assert_problem(await client.post(path, headers=doctor()), 404, "not_found")


async def test_a_method_that_a_path_does_not_have_is_405_with_those_that_it_has(client: httpx.AsyncClient) -> None:
    response = await client.delete("/api/notes")
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_an_unhandled_exception_reveals_nothing(client: httpx.AsyncClient) -> None:
    response = await client.get("/api/broken")
    assert_problem(response, 500, "internal_error")
    assert "SELECT" not in response.text


async def test_an_error_carries_its_own_members(client: httpx.AsyncClient) -> None:
    problem = assert_problem(await client.get("/api/taken"), 409, "conflict")
    assert problem["detail"].startswith("Taken by another note. ")
    assert problem["alternatives"] == ["a", "b"]


async def test_an_error_carries_its_headers(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/limited")).headers["retry-after"] == "7"


REFUSED = {
    "an empty body": ("POST", NOTE, b"", "malformed_json", "The body is empty. "),
    "a body that is no JSON": ("POST", NOTE, b"{", "malformed_json", None),
    "a body that is no object": ("POST", NOTE, b"[]", "invalid_request", "Wrong: the body. "),
    "fields": ("POST", NOTE, b'{"at": 5}', "invalid_request", "Wrong: ownerId, at, title. "),
    "unknown fields": ("POST", NOTE, b"{%s}" % b",".join(b'"u%d":1' % n for n in range(9)), "invalid_request", None),
    "a body that is too large": ("POST", NOTE, b" " * 70_000, "content_too_large", "The body is larger than any "),
    "a method": ("DELETE", NOTE, b"", "method_not_allowed", "This path has OPTIONS, POST only. "),
    "an unknown method": ("PURGE", NOTE, b"", "method_not_allowed", "This path has OPTIONS, POST only. "),
    "a parameter": ("GET", "/api/notes?limit=many", b"", "invalid_request", "Wrong: limit. "),
    "a parameter that is too large": ("GET", "/api/notes?limit=101", b"", "invalid_request", "Wrong: limit. "),
    "a missing parameter": ("GET", "/api/found", b"", "invalid_request", "Wrong: word. "),
    "a path": ("GET", "/api/nothing", b"", "not_found", "Nothing has this address, "),
}
FRAMEWORK = r"'data'|litestar|msgspec|regex|`int`|`str`|hexadecimal|Validation failed|http\.|Missing required|exceeds"


@pytest.mark.parametrize("what", REFUSED)
async def test_a_refusal_speaks_in_the_platforms_words(client: httpx.AsyncClient, what: str) -> None:
    method, path, body, code, detail = REFUSED[what]
    headers = doctor() | {"Content-Type": "application/json"}
    answer = await client.request(method, path, content=body, headers=headers)
    problem = assert_problem(answer, answer.status_code, code)
    assert not re.search(FRAMEWORK, answer.text, re.IGNORECASE)
    if detail is not None:
        assert problem["detail"].startswith(detail)
    assert len(problem["detail"]) < 400


async def test_the_form_of_a_field_is_described_without_its_pattern(client: httpx.AsyncClient) -> None:
    wrong = {"title": "\x00", "stars": 4.5, "ownerId": "x"}
    problem = assert_problem(await client.post(NOTE, json=note(**wrong), headers=doctor()), 400, "invalid_request")
    assert {error["path"]: error["message"] for error in problem["errors"]} == {
        "title": "Has a form, or characters, that are not allowed",
        "stars": "Expected integer, got number",
        "ownerId": "Expected a UUID",
    }
