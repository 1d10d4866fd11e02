"""Valid and invalid requests generated from the OpenAPI documents. The document describes every response."""

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

from tests.standalone.people import Person, admin, book, doctor, offer, patient
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
# The caller of the chained requests, each of which uses values from the response before it.
CHAINED = {"auth": "admin", "booking": "patient", "notification": "admin"}
MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
# For each operation, caller and mode (valid or invalid): always the same two examples, because each takes 0.1 s. With
# `make fuzz` they differ each time. The first example is the simplest possible one.
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
    appointment_type: str
    exception: str

    def parameters(self, path: str, caller: str) -> dict[str, str]:
        """Return path parameters that lead to an existing object, if the caller's role has one."""
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
        if path.endswith("/types/{id}"):
            return {"doctorId": self.people["doctor"].id, "id": self.appointment_type}
        if path.startswith("/api/availability"):
            exception = {"id": self.exception} if "{id}" in path else {}
            return {"doctorId": self.people["doctor"].id, **exception}
        return {"userId": self.people[caller].id} if "{userId}" in path else {}


@pytest.fixture(scope="module")
def cast(client: httpx.Client, platform: Platform) -> Cast:
    people = {
        "patient": patient(client),
        "doctor": doctor(client),
        "admin": admin(client, ADMIN, platform.admin_password),
    }
    booked = book(client, people["patient"], people["doctor"])
    path = f"/api/availability/{people['doctor'].id}/exceptions"
    leave = client.post(path, json={"kind": "OFF", "from": "2030-01-01"}, headers=people["doctor"].headers)
    offered = offer(client, people["doctor"])["id"]
    return Cast(people, doctor(client).id, booked["id"], offered, leave.json()["id"])


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def schema_of(name: str, mode: str = "all") -> OpenApiSchema:
    # No generated access tokens: test_bad_tokens.py covers those.
    config = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False, "mode": mode}})
    # A copy, because schemathesis adds links to the document.
    return schemathesis.openapi.from_dict(deepcopy(document(name)), config=config)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", NAMES)
def test_the_document_describes_every_response(
    platform: Platform, cast: Cast, session: requests.Session, name: str, caller: str
) -> None:
    schema = schema_of(name)
    operations = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]  # otherwise the document is invalid
    # Operations without authentication run for one caller. Logging out comes last, because it ends the session.
    operations = [one for one in operations if caller == "patient" or one.definition.raw.get("security") != []]
    if caller == "admin":  # wrong passwords would throttle the one admin, whom other tests need
        operations = [one for one in operations if not one.path.startswith(("/api/auth/mfa", "/api/auth/password"))]
    operations.sort(key=lambda one: one.path.endswith("/logout"))
    until = monotonic() + MINUTES * 60 / (len(NAMES) * len(CALLERS))
    sent = 0
    while not sent or monotonic() < until:
        for operation in operations:
            for mode in GenerationMode:
                sent += _send_examples(operation, mode, cast, caller, session, platform.url)
    assert sent >= len(operations) * EXAMPLES


def _send_examples(
    operation: APIOperation[Any, Any, Any, Any],
    mode: GenerationMode,
    cast: Cast,
    caller: str,
    session: requests.Session,
    url: str,
) -> int:
    sent = 0
    known = cast.parameters(operation.path, caller) if mode is GenerationMode.POSITIVE else {}

    @settings(GENERATING, max_examples=EXAMPLES)
    @given(operation.as_strategy(mode, path_parameters=known or None))
    def send(case: Case[Any]) -> None:
        nonlocal sent
        sent += 1
        _send(case, cast.people[caller], session, url)

    with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
        send()  # an operation without input has no invalid input
    return sent


def _send(case: Case[Any], caller: Person, session: requests.Session, url: str) -> requests.Response:
    request = case.as_transport_kwargs(base_url=url)
    request["headers"] = {**request["headers"], **caller.headers}
    with session.request(**request, timeout=20, stream=True) as answer:
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            assert answer.status_code == 200
            return answer  # a stream does not end
        answer.content  # noqa: B018
    assert answer.status_code < 500, case.as_curl_command()
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
    case.validate_response(answer, checks=CHECKS)
    return answer


@pytest.mark.parametrize("name", NAMES)
def test_the_document_describes_responses_to_chained_requests(
    platform: Platform, cast: Cast, session: requests.Session, name: str
) -> None:
    answers = Counter[int]()

    # Without ending its own session, after which every request would fail.
    schema = schema_of(name, "positive").exclude(operation_id="endSession")

    class Chain(schema.as_state_machine()):  # type: ignore[misc]
        def call(self, case: Case[Any], **_: Any) -> Response:
            answer = _send(case, cast.people[CHAINED[name]], session, platform.url)
            answers[answer.status_code] += 1
            return Response.from_requests(answer, verify=True)

        def validate_response(self, *_: Any, **__: Any) -> None: ...  # `_send` did it

    Chain.run(settings=settings(GENERATING, max_examples=CHAINS, stateful_step_count=8))
    assert answers.total() >= CHAINS
    assert any(status < 300 for status in answers), answers
