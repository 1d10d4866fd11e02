"""Bodies: every wrong field is named, and no body is larger or of another type than allowed."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from tests.kit.http.notes import note
from tests.kit.http.services import assert_problem, doctor


async def test_a_valid_request_is_answered(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/api/notes/{uuid4()}", json=note(), headers=doctor())
    assert response.status_code == 201
    assert response.json()["title"] == "First"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"


BAD_FIELDS = [
    ({"ownerId": "x"}, "ownerId", "a UUID"),
    ({"at": "2026-12-01T09:30:00"}, "at", "timezone"),
    ({"at": 1700000000}, "at", "got int"),
    ({"at": "9999999-12-01T09:30:00Z"}, "at", "Invalid"),
    ({"at": "0001-01-01T00:00:00+23:59"}, "at", "years 2 to 9998"),
    ({"at": "9999-12-31T23:59:59-23:59"}, "at", "years 2 to 9998"),
    ({"title": ""}, "title", "length >= 1"),
    ({"title": "   "}, "title", "not allowed"),
    ({"title": "a\x00b"}, "title", "not allowed"),
    ({"title": "a\nLog: forged"}, "title", "not allowed"),
    ({"title": "line end\n"}, "title", "not allowed"),
    ({"title": "x" * 201}, "title", "length <= 200"),
    ({"title": {"$gt": ""}}, "title", "got object"),
    ({"title": None}, "title", "got null"),
    ({"stars": "5"}, "stars", "got str"),
    ({"stars": 10**40}, "stars", "<= 5"),
    ({"stars": 1.5}, "stars", "got number"),
    ({"stars": True}, "stars", "got bool"),
    ({"text": "a\x00"}, "text", "not allowed"),
    ({"role": "ADMIN"}, "role", "Unknown field"),
]


@pytest.mark.parametrize(("change", "path", "message"), BAD_FIELDS)
async def test_a_wrong_field_is_named(
    client: httpx.AsyncClient, change: dict[str, Any], path: str, message: str
) -> None:
    response = await client.post(f"/api/notes/{uuid4()}", json=note(**change), headers=doctor())
    errors = assert_problem(response, 400, "invalid_request")["errors"]
    assert [error["path"] for error in errors] == [path]
    assert message in errors[0]["message"]


@pytest.mark.parametrize("stars", [b"3.0", b"3e0", b"30e-1"])
async def test_an_integer_may_be_written_with_a_point(client: httpx.AsyncClient, stars: bytes) -> None:
    body = json.dumps(note(stars=0)).encode().replace(b'"stars": 0', b'"stars": ' + stars)
    headers = {**doctor(), "Content-Type": "application/json"}
    response = await client.post(f"/api/notes/{uuid4()}", content=body, headers=headers)
    assert (response.status_code, response.json()["stars"]) == (201, 3)


async def test_all_wrong_fields_are_named_at_once(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/api/notes/{uuid4()}", json={"stars": 9, "zz": 1}, headers=doctor())
    errors = assert_problem(response, 400, "invalid_request")["errors"]
    assert {error["path"] for error in errors} == {"zz", "ownerId", "at", "title", "stars"}


BAD_BODIES = [
    (b"{", "malformed_json"),
    (b"\xff\xfe", "malformed_json"),
    (b'{"title": "\\ud800"}', "malformed_json"),
    (b'{"title": "\xed\xa0\x80"}', "malformed_json"),
    (b'{"unknown": "\xff\xfe"}', "malformed_json"),
    (b'{"stars": 9, "title": "\xff\xfe"}', "malformed_json"),
    (b"[" * 60_000, "invalid_request"),
    (b'{"a":' * 10_000, "invalid_request"),
    (b'{"stars": 1e999}', "invalid_request"),
    (b"[]", "invalid_request"),
    (b"null", "invalid_request"),
    (b'"text"', "invalid_request"),
    (b"", "malformed_json"),
]


@pytest.mark.parametrize(("body", "code"), BAD_BODIES)
async def test_a_body_that_is_not_a_note_is_400(client: httpx.AsyncClient, body: bytes, code: str) -> None:
    headers = {**doctor(), "Content-Type": "application/json"}
    response = await client.post(f"/api/notes/{uuid4()}", content=body, headers=headers)
    assert_problem(response, 400, code)


async def test_a_body_of_more_than_64_kib_is_413(client: httpx.AsyncClient) -> None:
    response = await client.post(f"/api/notes/{uuid4()}", json=note(text="x" * 1_000_000), headers=doctor())
    assert_problem(response, 413, "content_too_large")


async def test_a_body_of_unknown_length_is_cut_off_too(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" " * 1024

    headers = {**doctor(), "Content-Type": "application/json"}
    response = await client.post(f"/api/notes/{uuid4()}", content=endless(), headers=headers)
    assert_problem(response, 413, "content_too_large")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        "application/jsonp",
        "application/json-patch+json",
        "application",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf-16",
        "text/plain; application/json",
    ],
)
async def test_a_body_that_is_not_json_is_415(client: httpx.AsyncClient, content_type: str) -> None:
    headers = {**doctor(), "Content-Type": content_type}
    response = await client.post(f"/api/notes/{uuid4()}", content=b"a=b", headers=headers)
    assert_problem(response, 415, "unsupported_media_type")
    assert response.headers["accept"] == "application/json, application/merge-patch+json"


@pytest.mark.parametrize(
    "content_type",
    [
        "Application/JSON",
        "application/json;charset=utf-8",
        'APPLICATION/JSON ; Charset="UTF-8"',
        "application/json; profile=x; charset=utf8",
        "application/merge-patch+json",
        "application/json;",
    ],
)
async def test_a_media_type_has_no_case_and_may_have_parameters(client: httpx.AsyncClient, content_type: str) -> None:
    headers = {**doctor(), "Content-Type": content_type}
    answer = await client.post(f"/api/notes/{uuid4()}", content=msgspec.json.encode(note()), headers=headers)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "zstd", "identity, gzip"])
async def test_a_compressed_body_is_415_and_says_what_is_accepted(client: httpx.AsyncClient, coding: str) -> None:
    headers = {**doctor(), "Content-Type": "application/json", "Content-Encoding": coding}
    answer = await client.post(f"/api/notes/{uuid4()}", content=gzip.compress(b"{}"), headers=headers)
    assert_problem(answer, 415, "unsupported_media_type")
    assert answer.headers["accept-encoding"] == "identity"
    headers["Content-Encoding"] = "Identity"
    assert (await client.post(f"/api/notes/{uuid4()}", json=note(), headers=headers)).status_code == 201


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Idempotency-Key", "X-OTP", "Last-Event-ID"])
async def test_two_values_of_a_header_that_has_one_are_refused(client: httpx.AsyncClient, name: str) -> None:
    given = list({"Content-Type": "application/json", **doctor()}.items())
    path, body = f"/api/notes/{uuid4()}", msgspec.json.encode(note())
    headers = [*given, *[(name, value) for value in ("one", "other")]]
    problem = assert_problem(await client.post(path, content=body, headers=headers), 400, "invalid_request")
    assert problem["errors"] == [{"path": name, "message": "Sent twice"}]
    same = dict(given).get(name, "one")
    headers = [*[one for one in given if one[0] != name], (name, same), (name, same)]
    assert (await client.post(path, content=body, headers=headers)).status_code == 201
