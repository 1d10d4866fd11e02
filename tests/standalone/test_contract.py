"""Requests made up from the OpenAPI documents, sound and unsound ones: every answer is one that the document tells."""

import os
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from time import monotonic
from typing import Any, NamedTuple

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, CheckFunction, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.documents import NAMES, document
from tests.standalone.people import Person, admin, book, doctor, patient
from tests.standalone.platform_process import Platform

pytestmark = pytest.mark.xdist_group("platform")  # with the others who use the one platform of the run

CALLERS = ("patient", "doctor", "admin")
CHECKS: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
# Of each operation, for each caller and for sound and unsound data. Always the same ones, but with `make fuzz`.
EXAMPLES = 4
MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))


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
        return {"user_id": self.people[caller].id} if "{user_id}" in path else {}


@pytest.fixture(scope="module")
def cast(client: httpx.Client, platform: Platform) -> Cast:
    people = {
        "patient": patient(client),
        "doctor": doctor(client),
        "admin": admin(client, "admin@example.com", platform.admin_password),
    }
    return Cast(people, doctor(client).id, book(client, people["patient"], people["doctor"])["id"])


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", NAMES)
def test_every_answer_is_one_that_the_document_tells(
    platform: Platform, cast: Cast, session: requests.Session, name: str, caller: str
) -> None:
    # Access tokens are none of the data made up: test_bad_tokens.py has those.
    config = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
    schema = schemathesis.openapi.from_dict(document(name), config=config)
    operations = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]  # else it is no schema
    # What everybody is answered alike is asked once; signing out comes last, because it ends the session.
    operations = [one for one in operations if caller == "patient" or one.definition.raw.get("security") != [{}]]
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

    @settings(
        max_examples=EXAMPLES,
        derandomize=not MINUTES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(mode, path_parameters=known or None))
    def play(case: Case[Any]) -> None:
        nonlocal played
        played += 1
        request = case.as_transport_kwargs(base_url=url)
        request["headers"] = {**request["headers"], **cast.people[caller].headers}
        with session.request(**request, timeout=20, stream=True) as answer:
            if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
                assert answer.status_code == 200
                return  # it does not end
            answer.content  # noqa: B018
        assert answer.status_code < 500, case.as_curl_command()
        if answer.status_code >= 400:
            assert answer.headers["Content-Type"] == "application/problem+json"
        # msgspec takes `?unread=null` for an absent value, which is harmless.
        taken_for_absent: list[CheckFunction] = (
            [negative_data_rejection] if "null" in (case.query or {}).values() else []
        )
        case.validate_response(answer, checks=CHECKS, excluded_checks=taken_for_absent)

    with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
        play()  # an address that takes nothing has nothing to be unsound
    return played
