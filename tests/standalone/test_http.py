"""What HTTP promises of every operation of the three OpenAPI documents, on the running platform."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.standalone.people import Person, patient
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
