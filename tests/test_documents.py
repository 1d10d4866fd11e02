"""The published description of the API is true and complete, and never breaks its clients."""

import json
import re
from collections import Counter, defaultdict
from copy import deepcopy
from typing import Any

import jsonschema_rs
import pytest

from tests.support.compatibility import Json, breaking_changes, operations
from tests.support.documents import (
    ERRORS,
    ERRORS_HTML,
    NAMES,
    SNAPSHOTS,
    answered_by,
    codes,
    document,
    error_classes,
    errors_html,
    errors_page,
    published,
)

# Read from the published documents, because generating them takes each process a second.
OPERATIONS = [
    (name, operation)
    for name in NAMES
    for operation in operations(json.loads((SNAPSHOTS / f"{name}.json").read_text()))
]
PROBLEM_JSON = "application/problem+json"
SHARED = {"Sign in again.", "Do not repeat it."}  # remedies of several errors


@pytest.mark.parametrize("name", NAMES)
def test_the_documents_break_no_client_of_the_published_ones(name: str) -> None:
    assert breaking_changes(json.loads((SNAPSHOTS / f"{name}.json").read_text()), document(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_published_documents_are_up_to_date(name: str) -> None:
    assert (SNAPSHOTS / f"{name}.json").read_text() == published(name), "run `make docs`"


def test_the_page_of_errors_is_up_to_date() -> None:
    page = ERRORS.read_text()
    assert codes(page) <= codes(errors_page()), "a code that was published is gone"
    assert page == errors_page(), "run `make docs`"
    assert ERRORS_HTML.read_text() == errors_html(), "run `make docs`"


def test_a_code_has_one_title_one_meaning_and_one_remedy_of_its_own() -> None:
    meanings = defaultdict(set)
    for error in filter(answered_by, error_classes()):
        meanings[error.code].add((error.title, error.when, error.remedy))
    assert {code: meant for code, meant in meanings.items() if len(meant) > 1} == {}
    for text in zip(*(one for (one,) in meanings.values()), strict=True):
        assert [one for one, times in Counter(text).items() if times > 1 and one not in SHARED] == []


def test_sentences_about_errors_are_whole() -> None:
    for error in filter(answered_by, error_classes()):
        assert error.when.endswith("."), error
        assert error.remedy.endswith("."), error
        assert not error.title.endswith("."), error


@pytest.mark.parametrize("name", NAMES)
def test_every_problem_leads_to_its_section_of_the_page(name: str) -> None:
    sections = set(re.findall(r'<section id="(\w+)">', ERRORS_HTML.read_text()))
    examples = [
        example["value"]
        for operation in operations(document(name)).values()
        for answer in operation["responses"].values()
        for example in answer.get("content", {}).get(PROBLEM_JSON, {}).get("examples", {}).values()
    ]
    assert examples
    for example in examples:
        assert example["type"] == f"/api/docs/errors#{example['code']}"
        assert example["code"] in sections
        assert len(example["detail"]) > len(example["title"])


def test_an_error_that_a_service_defines_is_in_a_document() -> None:
    named = {code for code, _ in codes(ERRORS.read_text())}
    # Base classes are no answer by themselves.
    assert {error.code for error in error_classes()} - named == {"conflict", "unprocessable"}


BREAKS: dict[str, Any] = {
    "an operation": lambda d: d["paths"].pop("/api/appointments/{id}/history"),
    "a method": lambda d: d["paths"]["/api/appointments/{id}"].pop("patch"),
    "a name of an operation": lambda d: d["paths"]["/api/appointments"]["get"].update(operationId="find"),
    "a parameter": lambda d: d["paths"]["/api/appointments"]["get"]["parameters"].pop(0),
    "an optional parameter": lambda d: d["paths"]["/api/appointments"]["get"]["parameters"][0].update(required=True),
    "a status": lambda d: d["paths"]["/api/appointments"]["post"]["responses"].pop("201"),
    "a field": lambda d: schema(d, "Appointment")["properties"].pop("notes"),
    "a field's presence": lambda d: schema(d, "Appointment")["required"].remove("version"),
    "a field's type": lambda d: schema(d, "Appointment")["properties"]["version"].update(type="string"),
    "null": lambda d: schema(d, "AppointmentUpdate")["properties"]["notes"]["oneOf"].pop(),
    "an optional field of a request": lambda d: schema(d, "AppointmentCreate")["required"].append("notes"),
    "a value": lambda d: schema(d, "AppointmentStatus")["enum"].remove("NO_SHOW"),
    "a component": lambda d: d["components"]["schemas"].pop("HistoryEntry"),
}


@pytest.mark.parametrize("taken", BREAKS)
def test_a_breaking_change_is_noticed(taken: str) -> None:
    changed = deepcopy(document("booking"))
    BREAKS[taken](changed)
    assert len(breaking_changes(document("booking"), changed)) == 1


def test_an_addition_breaks_nothing() -> None:
    grown = deepcopy(document("booking"))
    grown["paths"]["/api/rooms"] = grown["paths"]["/api/appointments"]
    schema(grown, "Appointment")["properties"]["room"] = {"type": "string"}
    schema(grown, "Appointment")["required"].append("room")
    schema(grown, "AppointmentCreate")["properties"]["room"] = {"type": "string"}
    schema(grown, "AppointmentStatus")["enum"].append("WAITING")
    assert breaking_changes(document("booking"), grown) == []


def schema(document: Json, name: str) -> Json:
    found: Json = document["components"]["schemas"][name]
    return found


@pytest.mark.parametrize(("name", "operation"), OPERATIONS)
def test_an_operation_is_described_completely(name: str, operation: str) -> None:
    described = operations(document(name))[operation]
    assert described["summary"]
    assert described["description"]
    assert described["operationId"][0].islower()
    assert described.get("security", document(name)["security"]) in ([], [{"bearer": []}], [{}, {"bearer": []}])
    problems = {status: answer for status, answer in described["responses"].items() if status >= "400"}
    assert problems
    for status, answer in problems.items():
        assert answer["content"], status
        for code, example in answer["content"].get(PROBLEM_JSON, {}).get("examples", {}).items():
            assert f"`{code}`" in answer["description"]
            assert (example["value"]["code"], str(example["value"]["status"])) == (code, status)
    if "requestBody" in described:
        assert {"413", "415"} <= problems.keys()
        assert "malformed_json" in problems["400"]["content"][PROBLEM_JSON]["examples"]


@pytest.mark.parametrize(("name", "operation"), OPERATIONS)
def test_examples_are_valid(name: str, operation: str) -> None:
    described = operations(document(name))[operation]
    contents = [answer.get("content", {}) for answer in described["responses"].values()]
    contents.append(described.get("requestBody", {}).get("content", {}))
    for content in contents:
        for kind, media in content.items():
            if kind == "text/event-stream":
                continue
            examples = [one["value"] for one in media.get("examples", {}).values()]
            examples += [media["example"]] if "example" in media else []
            assert examples, f"{kind} without an example"
            validator = jsonschema_rs.Draft202012Validator(
                {**media["schema"], "components": document(name)["components"]}, validate_formats=True
            )
            for example in examples:
                validator.validate(example)


@pytest.mark.parametrize("name", NAMES)
def test_schema_names_are_valid_in_generated_clients(name: str) -> None:
    assert [one for one in document(name)["components"]["schemas"] if not one.isalnum()] == []
