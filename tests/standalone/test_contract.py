"""Requests made up from the OpenAPI documents, sound and unsound ones: every answer is one that the document tells."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from copy import deepcopy
from time import monotonic
from typing import Any, NamedTuple

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, CheckFunction, GenerationMode, Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema

from tests.standalone.people import Person, admin, book, doctor, patient
from tests.standalone.platform import Platform
from tests.support.documents import NAMES, document

ADMIN = "admin@example.com"
CALLERS = ("patient", "doctor", "admin")
CHECKS: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
# As whom a document's operations are asked one after the other, each with what the one before has answered.
CHAINED = {"auth": "admin", "booking": "patient", "notification": "admin"}
MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
# Of each operation, for each caller and for sound and unsound data: always the same two, as each takes a tenth of a
# second, and other ones each time with `make fuzz`. The first is the simplest one there is.
EXAMPLES = 10 if MINUTES else 2
CHAINS = 50 if MINUTES else 4

GENERATING = settings(
    derandomize=not MINUTES,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Cast(NamedTuple):
    people: dict[str, Person]
    third_doctor: str
    appointment: str

    def parameters(self, path: str, caller: str) -> dict[str, str]:
        """What makes an address one that exists, as far as the caller's role has one."""
        if "{" not in path:
            return {}
        if path.startswith("/api/appointments"):
            return {"id": self.appointment}
        if path.endswith(("/approve", "/suspend")):
            return {"id": self.third_doctor}
        if path.startswith("/api/doctors"):
            return {"id": self.people["doctor"].id}
        if path.startswith("/api/patients"):
            return {"id": self.people["patient"].id}
        return {"userId": self.people[caller].id} if "{userId}" in path else {}


@pytest.fixture(scope="module")
def cast(client: httpx.Client, platform: Platform) -> Cast:
    people = {
        "patient": patient(client),
        "doctor": doctor(client),
        "admin": admin(client, ADMIN, platform.admin_password),
    }
    return Cast(people, doctor(client).id, book(client, people["patient"], people["doctor"])["id"])


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def schema_of(name: str, mode: str = "all") -> OpenApiSchema:
    # Access tokens are none of the data made up: test_bad_tokens.py has those.
    config = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False, "mode": mode}})
    # A copy, for it adds links to it.
    return schemathesis.openapi.from_dict(deepcopy(document(name)), config=config)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", NAMES)
def test_every_answer_is_one_that_the_document_tells(
    platform: Platform, cast: Cast, session: requests.Session, name: str, caller: str
) -> None:
    schema = schema_of(name)
    operations = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]  # else it is no schema
    # What everybody is answered alike is asked once; signing out comes last, because it ends the session.
    operations = [one for one in operations if caller == "patient" or one.definition.raw.get("security") != []]
    if caller == "admin":  # the pauses that wrong guesses bring about are other tests' too: there is one admin
        operations = [one for one in operations if not one.path.startswith(("/api/auth/mfa", "/api/auth/password"))]
    operations.sort(key=lambda one: one.path.endswith("/logout"))
    until = monotonic() + MINUTES * 60 / (len(NAMES) * len(CALLERS))
    played = 0
    while not played or monotonic() < until:
        for operation in operations:
            for mode in GenerationMode:
                played += _play(operation, mode, cast, caller, session, platform.url)
    assert played >= len(operations) * EXAMPLES


def _play(
    operation: APIOperation[Any, Any, Any, Any],
    mode: GenerationMode,
    cast: Cast,
    caller: str,
    session: requests.Session,
    url: str,
) -> int:
    played = 0
    known = cast.parameters(operation.path, caller) if mode is GenerationMode.POSITIVE else {}

    @settings(GENERATING, max_examples=EXAMPLES)
    @given(operation.as_strategy(mode, path_parameters=known or None))
    def play(case: Case[Any]) -> None:
        nonlocal played
        played += 1
        _ask(case, cast.people[caller], session, url)

    with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
        play()  # an address that takes nothing has nothing to be unsound
    return played


def _ask(case: Case[Any], caller: Person, session: requests.Session, url: str) -> requests.Response:
    request = case.as_transport_kwargs(base_url=url)
    request["headers"] = {**request["headers"], **caller.headers}
    with session.request(**request, timeout=20, stream=True) as answer:
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            assert answer.status_code == 200
            return answer  # it does not end
        answer.content  # noqa: B018
    assert answer.status_code < 500, case.as_curl_command()
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
    case.validate_response(answer, checks=CHECKS)
    return answer


@pytest.mark.parametrize("name", NAMES)
def test_what_an_answer_leads_to_is_answered_as_the_document_tells(
    platform: Platform, cast: Cast, session: requests.Session, name: str
) -> None:
    answers = Counter[int]()

    # Nor does it end its own session, which would be the last that it did.
    schema = schema_of(name, "positive").exclude(operation_id="endSession")

    class Chain(schema.as_state_machine()):  # type: ignore[misc]
        def call(self, case: Case[Any], **_: Any) -> Response:
            answer = _ask(case, cast.people[CHAINED[name]], session, platform.url)
            answers[answer.status_code] += 1
            return Response.from_requests(answer, verify=True)

        def validate_response(self, *_: Any, **__: Any) -> None: ...  # `_ask` has done it

    Chain.run(settings=settings(GENERATING, max_examples=CHAINS, stateful_step_count=8))
    assert answers.total() >= CHAINS
    assert any(status < 300 for status in answers), answers
