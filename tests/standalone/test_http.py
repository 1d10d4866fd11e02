"""What HTTP promises of every operation of the three OpenAPI documents, on the running platform."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from services.kit.http.cors import REQUEST_HEADERS, RESPONSE_HEADERS
from tests.standalone.people import Person, patient
from tests.standalone.platform import ORIGIN
from tests.support.compatibility import operations
from tests.support.documents import NAMES, SNAPSHOTS

PROBLEM = {"type", "title", "status", "detail", "code", "requestId"}
FRAMEWORK = r"'data'|litestar|msgspec|uvicorn|regex|hexadecimal|Validation failed|http\.|Missing required|exceeds"


def described() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yield the method, path and description of each operation; ids in the path are those of nothing."""
    for name in NAMES:
        for operation, description in operations(json.loads((SNAPSHOTS / f"{name}.json").read_text())).items():
            method, path = operation.split()
            yield method, re.sub(r"\{\w+\}", str(uuid4()), path), description


EVERY = list(described())
PATHS = sorted({path for _, path, _ in EVERY})


@pytest.fixture(scope="module")
def caller(client: httpx.Client) -> Person:
    return patient(client)


def test_every_problem_has_six_members_one_title_and_a_page(client: httpx.Client, caller: Person) -> None:
    page = client.get("/api/docs/errors").text
    titles = defaultdict(set)

    def check(answer: httpx.Response) -> None:
        assert answer.status_code >= 400, answer.request
        problem = answer.json()
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert problem.keys() >= PROBLEM
        assert problem["type"] == f"/api/docs/errors#{problem['code']}"
        assert f'<section id="{problem["code"]}">' in page
        assert len(problem["detail"]) > len(problem["title"]), problem
        assert not re.search(FRAMEWORK, answer.text, re.IGNORECASE), answer.text
        titles[problem["code"]].add(problem["title"])

    for method, path, description in EVERY:
        check(client.request("PURGE", path))
        check(client.request("TRACE", path))
        check(client.request(method, f"{path}?a=%00"))
        if "security" not in description:
            check(client.request(method, path))
        if "requestBody" not in description:
            continue
        for body in (b"", b"{", b"[]", b'{"nothing": 1}', b"[" * 60_000, b" " * 70_000):
            headers = caller.headers | {"Content-Type": "application/json"}
            check(client.request(method, path, content=body, headers=headers))
        check(client.request(method, path, content=b"a=1", headers={"Content-Type": "text/plain"}))
    for path in ("/", "/api", "/api/nothing", "/api/docs/nothing", "/api/docs/auth/assets/nothing"):
        check(client.get(path))
    assert {code: found for code, found in titles.items() if len(found) > 1} == {}
    assert len(titles) >= 8


def test_head_is_get_without_a_body(client: httpx.Client, caller: Person) -> None:
    """Of every path that has GET: for nobody, for a caller who mostly gets a 404, and for one who reads."""
    for method, path, _ in EVERY:
        if method != "GET":
            continue
        own = re.sub(r"(/api/(?:notifications|patients)/)[0-9a-f-]{36}", rf"\g<1>{caller.id}", path)
        for address, headers in ((path, {}), (path, caller.headers), (own, caller.headers)):
            head = client.head(address, headers=headers)
            assert head.content == b""
            if head.headers["Content-Type"].startswith("text/event-stream"):
                continue  # GET would not end
            answer = client.get(address, headers=headers)
            assert head.status_code == answer.status_code, address
            assert head.headers.keys() == answer.headers.keys(), address
    for page in ("/api/docs", "/api/docs/errors", "/api/docs/booking", "/api/docs/auth/openapi.json"):
        assert client.head(page).headers["Content-Length"] == client.get(page).headers["Content-Length"]


def test_options_names_every_method_of_a_path(client: httpx.Client) -> None:
    methods: dict[str, set[str]] = defaultdict(lambda: {"OPTIONS"})
    for method, path, _ in EVERY:
        methods[re.sub(r"[0-9a-f-]{36}", "id", path)] |= {"GET", "HEAD"} if method == "GET" else {method}
    for path, expected in methods.items():
        answer = client.options(path.replace("id", str(uuid4())) if "/id" in path else path)
        assert answer.status_code == 204, path
        assert set(answer.headers["Allow"].split(", ")) == expected, path


def test_every_answer_can_be_read_by_a_page_of_a_listed_origin(client: httpx.Client, caller: Person) -> None:
    preflight = {"Origin": ORIGIN, "Access-Control-Request-Method": "PATCH"}
    for method, path, description in EVERY:
        asked = client.options(path, headers=preflight)
        taken = {one["name"] for one in description.get("parameters", []) if one["in"] == "header"}  # type: ignore[attr-defined]
        assert asked.status_code == 204
        assert taken <= set(asked.headers["Access-Control-Allow-Headers"].split(", "))
        sent = {header for answer in description["responses"].values() for header in answer.get("headers", {})}  # type: ignore[attr-defined]
        assert sent <= set(RESPONSE_HEADERS)
        for headers in ({}, {"Content-Type": "text/plain"}, caller.headers | {"X-Long": "a" * 40_000}):
            if method == "GET" and path.endswith("/stream"):
                continue
            answer = client.request(method, path, content=b"a", headers={"Origin": ORIGIN, **headers})
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN, (method, path, answer.text)
    assert set(REQUEST_HEADERS) >= {"Authorization", "Content-Type", "X-Request-ID", "traceparent"}


def test_a_body_is_json_by_its_type_and_not_compressed(client: httpx.Client, caller: Person) -> None:
    for method, path, description in EVERY:
        if "requestBody" not in description:
            continue
        for given, status in (
            ({"Content-Type": "Application/JSON; Charset=UTF-8"}, None),
            ({"Content-Type": "application/json; charset=utf-16"}, 415),
            ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
        ):
            answer = client.request(method, path, content=b'{"nothing": 1}', headers=caller.headers | given)
            assert (answer.status_code == 415) is (status == 415), (method, path, given, answer.text)
            if "Content-Encoding" in given:
                assert answer.headers["Accept-Encoding"] == "identity"
