"""Whatever bytes a client sends, to whatever operation: never a 5xx, always a problem document that names the place."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.standalone.people import Person, admin, book, doctor, patient
from tests.standalone.platform import Platform
from tests.standalone.raw_input import (
    BODIES,
    COMMON_HEADERS,
    COOKIES,
    ENCODED,
    HEADERS,
    VALUES,
    Json,
    cursors,
    fields_of,
    with_value,
)
from tests.support.compatibility import operations
from tests.support.documents import NAMES, document
from tests.support.quotas import UNLIMITED

# These succeed whatever the header: for the callers of the other requests they would be the last ones.
_ENDS_SESSIONS = ("DELETE /api/auth", "POST /api/auth/logout")
_JSON = {"Content-Type": "application/json"}


class Sender:
    def __init__(self, client: httpx.Client, people: dict[str, Person]) -> None:
        self._client, self.people = client, people

    def send(self, name: str, path: str, *, caller: str = "admin", **request: Any) -> tuple[int, Json]:
        """Send one request and return the status and the problem, if it is one."""
        method = name.partition(" ")[0]
        headers = {**self.people[caller].headers, **request.pop("headers", {})}
        with self._client.stream(method, path, headers=headers, **request) as answer:
            if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
                return answer.status_code, {}  # a stream does not end
            answer.read()
        what = (name, path[:200], request, headers, answer.text[:500])
        assert answer.status_code < 500, what
        if answer.status_code < 400:
            return answer.status_code, {}
        assert answer.headers["Content-Type"] == "application/problem+json", what
        problem: Json = answer.json()
        assert problem["status"] == answer.status_code, what
        return answer.status_code, problem

    def path(self, name: str, **given: str) -> str:
        """Return the path of an operation: for its user's id the admin's, for any other one that does not exist."""
        return re.sub(
            r"\{(\w+)\}",
            lambda found: given.get(found[1]) or (self.people["admin"].id if found[1] == "userId" else str(uuid4())),
            name.partition(" ")[2],
        )

    def next_cursor(self, path: str, sort: str) -> str | None:
        answer = self._client.get(f"{path}?{sort}limit=1", headers=self.people["admin"].headers)
        cursor: str | None = answer.json().get("nextCursor")
        return cursor


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform without quotas, which would soon answer 429 to all of this."""
    folder = tmp_path_factory.mktemp("raw") / "data"
    platform = Platform(folder, USER_REQUESTS_PER_MINUTE="0", **UNLIMITED).started()
    yield platform
    platform.stop()


@pytest.fixture(scope="module")
def sender(platform: Platform) -> Iterator[Sender]:
    with httpx.Client(base_url=platform.url, timeout=20, trust_env=False) as client:
        people = {
            "patient": patient(client),
            "doctor": doctor(client),
            "admin": admin(client, "admin@example.com", platform.admin_password),
        }
        for _ in range(2):  # so that lists of one item have a next page
            book(client, people["patient"], people["doctor"])
            doctor(client)
        yield Sender(client, people)


def _named(name: str, *, without: tuple[str, ...] = ()) -> list[tuple[str, Json]]:
    return [(key, one) for key, one in operations(document(name)).items() if key not in without]


def _parameters(operation: Json, place: str) -> list[str]:
    return [one["name"] for one in operation.get("parameters", []) if one["in"] == place]


def _required(operation: Json) -> str:
    """Return the beginning of a query with the parameters that must be there, all of them ids."""
    required = [one for one in operation.get("parameters", []) if one["in"] == "query" and one["required"]]
    return "".join(f"{one['name']}={uuid4()}&" for one in required)


def _paths(problem: Json) -> list[str]:
    return [error["path"] for error in problem.get("errors", [])]


def _sorts(operation: Json) -> list[str]:
    """Return the beginning of a query for each order of a list: a cursor belongs to one."""
    found = [one["schema"]["enum"] for one in operation.get("parameters", []) if one["name"] == "sort"]
    return [f"sort={sort}&" for sort in found[0]] if found else [""]


@pytest.mark.parametrize("name", NAMES)
def test_a_body_of_any_bytes_is_answered(sender: Sender, name: str) -> None:
    for key, operation in _named(name):
        if "requestBody" not in operation:
            continue
        for body in BODIES:
            status, problem = sender.send(key, sender.path(key), content=body, headers=_JSON)
            assert status >= 400, (key, body[:80])
            if status == 400 and problem["code"] == "invalid_request" and body.startswith(b"{"):
                assert problem["errors"], (key, body[:80], problem)


@pytest.mark.parametrize("name", NAMES)
def test_a_field_of_any_value_is_answered_and_named(sender: Sender, name: str) -> None:
    for key, operation in _named(name):
        if "requestBody" not in operation:
            continue
        example, fields = fields_of(document(name), operation)
        for field in fields:
            for value in VALUES:
                body = with_value(example, field, value)
                status, problem = sender.send(key, sender.path(key), caller="patient", content=body, headers=_JSON)
                if status == 400 and problem["code"] == "invalid_request":
                    # The empty path is the whole body: of some fields only one may be there.
                    assert any(path.startswith(field) or not path for path in _paths(problem)), (body[:200], problem)


@pytest.mark.parametrize("name", NAMES)
def test_a_query_parameter_of_any_value_is_answered_and_named(sender: Sender, name: str) -> None:
    for key, operation in _named(name):
        for parameter in _parameters(operation, "query"):
            for value in ENCODED:
                status, problem = sender.send(key, f"{sender.path(key)}?{_required(operation)}{parameter}={value}")
                if status == 400 and "%00" not in value:
                    assert parameter in _paths(problem), (key, value[:80], problem)
        for value in ENCODED:
            if key not in _ENDS_SESSIONS:
                sender.send(key, f"{sender.path(key)}?{value}={value}")


def test_a_query_parameter_that_is_missing_is_named(sender: Sender) -> None:
    found = [(key, one) for name in NAMES for key, one in _named(name) if _required(one)]
    assert found
    for key, operation in found:
        status, problem = sender.send(key, sender.path(key))
        assert (status, set(_paths(problem))) == (400, set(re.findall(r"(\w+)=", _required(operation)))), problem


@pytest.mark.parametrize("name", NAMES)
def test_a_path_of_any_value_is_answered(sender: Sender, name: str) -> None:
    for key, operation in _named(name):
        for parameter in _parameters(operation, "path"):
            for value in ENCODED:
                status, _ = sender.send(key, sender.path(key, **{parameter: value}))
                assert status >= 400, (key, value)


@pytest.mark.parametrize("name", NAMES)
def test_a_header_of_any_value_is_answered(sender: Sender, name: str) -> None:
    for key, operation in _named(name, without=_ENDS_SESSIONS):
        for header in {*COMMON_HEADERS, *_parameters(operation, "header")}:
            for value in HEADERS:
                sender.send(key, sender.path(key), headers={header: value})
        for cookie in COOKIES:
            sender.send(key, sender.path(key), headers={"Cookie": cookie})


@pytest.mark.parametrize("name", NAMES)
def test_a_cursor_of_any_content_is_answered_and_named(sender: Sender, name: str) -> None:
    lists = [(key, one) for key, one in _named(name) if "cursor" in _parameters(one, "query")]
    genuine = [
        cursor
        for key, operation in lists
        for sort in _sorts(operation)
        if (cursor := sender.next_cursor(sender.path(key), sort))
    ]
    assert genuine
    for key, operation in lists:
        for sort in _sorts(operation):
            for cursor in cursors(genuine):
                query = f"{_required(operation)}{sort}cursor={cursor}"
                status, problem = sender.send(key, f"{sender.path(key)}?{query}")
                if status == 400:
                    assert _paths(problem) == ["cursor"], (key, cursor, problem)
