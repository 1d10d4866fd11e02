"""The status of every operation in the three OpenAPI documents for each kind of caller."""

import time
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from services.auth.sessions.keys import SigningKeys
from services.contracts.enums import Role
from tests.standalone.people import Person, admin, book, doctor, free_time, offer, patient, sign_in
from tests.standalone.platform import Platform
from tests.support.canary import PASSWORD
from tests.support.issuer import Issuer

CALLERS = ("anonymous", "expired", "revoked", "patient", "other patient", "doctor", "other doctor", "admin")


class Cast(NamedTuple):
    """`patient` and `doctor` are the parties of `appointment`; the doctor offers `appointment_type`."""

    people: dict[str, Person]
    appointment: str
    appointment_type: str

    @staticmethod
    def is_patient(caller: str) -> bool:
        return caller in ("patient", "other patient", "revoked")

    def path(self, template: str) -> str:
        owner = "patient" if template.startswith(("/api/patients", "/api/notifications")) else "doctor"
        if template.startswith("/api/appointments"):
            return template.replace("{id}", self.appointment)
        path = template.replace("{userId}", self.people[owner].id).replace("{doctorId}", self.people["doctor"].id)
        if "/types" in template:
            return path.replace("{id}", self.appointment_type)
        if template.startswith(("/api/auth/sessions", "/api/holds", "/api/availability")):
            return path.replace("{id}", str(uuid4()))
        return path.replace("{id}", self.people["third doctor" if "approve" in path or "suspend" in path else owner].id)


def rows(anonymous: int, *answers: int) -> dict[str, int]:
    """Order the statuses as CALLERS. `revoked` is a token of `patient`; an expired token counts as none."""
    return dict(zip(CALLERS, (anonymous, anonymous, *answers), strict=True))


ANYONE = rows(200, 200, 200, 200, 200, 200, 200)
SIGNED_IN = rows(401, 200, 200, 200, 200, 200, 200)
ADMINS = rows(401, 403, 403, 403, 403, 403, 200)
PARTIES = rows(401, 200, 200, 404, 200, 404, 200)
WHO_MAY: dict[str, dict[str, int]] = {
    "POST /api/doctors/signup": rows(201, 201, 201, 201, 201, 201, 201),
    "POST /api/patients/signup": rows(201, 201, 201, 201, 201, 201, 201),
    "POST /api/doctors/login": rows(401, 401, 401, 401, 401, 401, 401),
    "POST /api/patients/login": rows(401, 401, 401, 401, 401, 401, 401),
    "POST /api/auth/login": ANYONE,
    "POST /api/auth/refresh": rows(401, 401, 401, 401, 401, 401, 401),
    "GET /api/auth": SIGNED_IN,
    "GET /api/auth/export": SIGNED_IN,
    "DELETE /api/auth": rows(401, 401, 403, 403, 403, 403, 403),
    "POST /api/auth/password": rows(401, 401, 403, 403, 403, 403, 403),
    "POST /api/auth/password-reset": rows(202, 202, 202, 202, 202, 202, 202),
    "POST /api/auth/password-reset/confirm": rows(400, 400, 400, 400, 400, 400, 400),
    "POST /api/auth/verify-email": rows(400, 400, 400, 400, 400, 400, 400),
    "POST /api/auth/verify-email/request": rows(401, 401, 202, 202, 202, 202, 202),
    "POST /api/auth/mfa": rows(401, 401, 403, 403, 403, 403, 403),
    "POST /api/auth/mfa/confirm": rows(401, 401, 409, 409, 409, 409, 409),
    "DELETE /api/auth/mfa": rows(401, 401, 409, 409, 409, 409, 409),
    "GET /api/auth/sessions": SIGNED_IN,
    "GET /api/auth/audit": ADMINS,
    "GET /api/appointments/audit": ADMINS,
    "GET /api/notifications/audit": ADMINS,
    "DELETE /api/auth/sessions/{id}": rows(401, 401, 404, 404, 404, 404, 404),
    "GET /api/auth/.well-known/jwks.json": ANYONE,
    "GET /api/doctors": ANYONE,
    "GET /api/doctors/{id}": SIGNED_IN,
    "PATCH /api/doctors/{id}": rows(401, 403, 403, 403, 200, 403, 200),
    "POST /api/doctors/{id}/approve": ADMINS,
    "POST /api/doctors/{id}/suspend": ADMINS,
    "GET /api/patients": ADMINS,
    "GET /api/patients/{id}": rows(401, 200, 200, 404, 403, 403, 200),
    "PATCH /api/patients/{id}": rows(401, 401, 200, 404, 403, 403, 200),
    "GET /api/health": ANYONE,
    "GET /api/health/live": ANYONE,
    "GET /api/health/auth": ANYONE,
    "GET /api/health/booking": ANYONE,
    "GET /api/health/notification": ANYONE,
    "POST /api/appointments": rows(401, 401, 201, 201, 201, 403, 201),
    "GET /api/appointments": SIGNED_IN,
    "GET /api/appointments/{id}": PARTIES,
    "PATCH /api/appointments/{id}": PARTIES | {"revoked": 401},
    "GET /api/appointments/{id}/history": PARTIES,
    "POST /api/holds": rows(401, 401, 201, 201, 201, 403, 201),
    "GET /api/holds": SIGNED_IN,
    "DELETE /api/holds/{id}": rows(401, 401, 404, 404, 404, 404, 404),
    "PUT /api/availability/{doctorId}": rows(401, 403, 403, 403, 200, 403, 200),
    "GET /api/availability/{doctorId}": ANYONE,
    "GET /api/availability/{doctorId}/history": rows(401, 403, 403, 403, 200, 403, 200),
    "POST /api/availability/{doctorId}/exceptions": rows(401, 403, 403, 403, 201, 403, 201),
    "GET /api/availability/{doctorId}/exceptions": ANYONE,
    "GET /api/availability/{doctorId}/exceptions/history": rows(401, 403, 403, 403, 200, 403, 200),
    "DELETE /api/availability/{doctorId}/exceptions/{id}": rows(401, 403, 403, 403, 404, 403, 404),
    "GET /api/slots": ANYONE,
    "GET /api/availability/{doctorId}/types": ANYONE,
    "POST /api/availability/{doctorId}/types": rows(401, 403, 403, 403, 201, 403, 201),
    "GET /api/availability/{doctorId}/types/{id}": ANYONE,
    "PATCH /api/availability/{doctorId}/types/{id}": rows(401, 403, 403, 403, 200, 403, 200),
    "DELETE /api/availability/{doctorId}/types/{id}": rows(401, 403, 403, 403, 200, 403, 200),
    "GET /api/notifications/stats": ADMINS,
    "GET /api/notifications/deliveries": ADMINS,
    "GET /api/notifications/dead-letters": ADMINS,
    "POST /api/notifications/dead-letters/{id}/replay": rows(401, 403, 403, 403, 403, 403, 404),
    "GET /api/notifications/{userId}": rows(401, 200, 200, 404, 404, 404, 200),
    "POST /api/notifications/{userId}/read": rows(401, 401, 200, 404, 404, 404, 403),
    "GET /api/notifications/{userId}/stream": rows(401, 401, 200, 404, 404, 404, 403),
    "POST /api/notifications/{userId}/stream-ticket": rows(401, 401, 201, 404, 404, 404, 403),
    # Last, because it ends the sessions of the other rows.
    "POST /api/auth/logout": rows(401, 204, 204, 204, 204, 204, 204),
}


@pytest.fixture(scope="module")
def cast(client: httpx.Client, platform: Platform) -> Cast:
    people = {
        "anonymous": Person("", "", {}),
        "expired": Person("", "", {"Authorization": f"Bearer {expired(platform)}"}),
        "patient": patient(client),
        "other patient": patient(client),
        "doctor": doctor(client),
        "other doctor": doctor(client),
        "third doctor": doctor(client),
        "admin": admin(client, "admin@example.com", platform.admin_password),
    }
    people["revoked"] = signed_out(client, people["patient"])
    appointment = book(client, people["patient"], people["doctor"])["id"]
    return Cast(people, appointment, offer(client, people["doctor"])["id"])


def expired(platform: Platform) -> str:
    issuer = Issuer(*SigningKeys(platform.data_dir / "signing-keys.json").signer())
    return issuer.token(role=Role.ADMIN, exp=int(time.time()) - 60)


def signed_out(client: httpx.Client, person: Person) -> Person:
    """Log the person in again, log out, and wait until every service refuses that session."""
    session = sign_in(client, "auth", person.email, PASSWORD)
    assert client.post("/api/auth/logout", headers=session.headers).status_code == 204
    booking = {"doctorId": str(uuid4()), "dateTime": free_time()}
    writes = [("/api/appointments", booking), (f"/api/notifications/{person.id}/read", {"ids": []})]
    deadline = time.monotonic() + 5
    while any(client.post(path, json=body, headers=session.headers).status_code != 401 for path, body in writes):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return session


def body(operation: str, caller: str, cast: Cast) -> dict[str, Any] | None:
    account = {"fullname": "New Name", "email": f"{uuid4().hex}@example.com", "password": PASSWORD}
    practice = {"speciality": "Surgery", "experience": 3, "consultationFee": "10.00", "timeZone": "UTC"}
    booking = {"doctorId": cast.people["doctor"].id, "dateTime": free_time()}
    if "patient" not in caller and caller != "revoked":
        booking["patientId"] = cast.people["patient"].id
    bodies: dict[str, dict[str, Any]] = {
        "POST /api/doctors/signup": {**account, **practice},
        "POST /api/patients/signup": account,
        "POST /api/doctors/login": {"email": account["email"], "password": PASSWORD},
        "POST /api/patients/login": {"email": account["email"], "password": PASSWORD},
        "POST /api/auth/login": {"email": cast.people["patient"].email, "password": PASSWORD},
        "POST /api/auth/refresh": {"refreshToken": "x" * 43},
        "POST /api/auth/password": {"currentPassword": "not the one", "password": PASSWORD},
        "POST /api/auth/mfa": {"password": "not the one"},
        "DELETE /api/auth": {"password": "not the one"},
        "POST /api/auth/mfa/confirm": {"otp": "123456"},
        "POST /api/auth/password-reset": {"email": account["email"]},
        "POST /api/auth/password-reset/confirm": {"token": "made-up", "password": PASSWORD},
        "POST /api/auth/verify-email": {"token": "made-up"},
        "PATCH /api/doctors/{id}": {"phone": None},
        "PATCH /api/patients/{id}": {"phone": None},
        "POST /api/appointments": booking,
        "POST /api/holds": booking,
        "PATCH /api/appointments/{id}": {"notes": caller},
        "POST /api/availability/{doctorId}/types": {"name": "Video call", "durationMinutes": 30, "mode": "VIDEO"},
        "PATCH /api/availability/{doctorId}/types/{id}": {"price": "99.50"},
        "PUT /api/availability/{doctorId}": {"timeZone": "UTC", "weekly": []},
        "POST /api/availability/{doctorId}/exceptions": {"kind": "EXTRA", "from": "2030-01-01"},
        "POST /api/notifications/{userId}/read": {"all": True},
    }
    return bodies.get(operation)


@pytest.fixture(scope="module")
def documents(client: httpx.Client) -> dict[str, Any]:
    """Return all services' operations by path and method, each with the security that applies to it."""
    found: dict[str, Any] = {}
    for service in ("auth", "booking", "notification"):
        document = client.get(f"/api/docs/{service}/openapi.json").json()
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                found.setdefault(path, {})[method] = {"security": document["security"], **operation}
    return found


def test_the_table_has_every_operation_and_no_other(documents: dict[str, Any]) -> None:
    operations = {f"{method.upper()} {path}" for path, methods in documents.items() for method in methods}
    assert operations == WHO_MAY.keys()


@pytest.mark.parametrize("operation", WHO_MAY)
def test_each_caller_gets_the_status_in_the_table(client: httpx.Client, cast: Cast, operation: str) -> None:
    method, template = operation.split()
    queries = {
        "/suspend": {"onConflict": "keep"},
        "/{doctorId}": {"onConflict": "keep"},
        "/deliveries": {"appointmentId": cast.appointment},
        "/slots": {"doctorId": cast.people["doctor"].id},
    }
    query = queries.get(template[template.rindex("/") :])
    answers = {}
    for caller in CALLERS:
        # Streamed, because the body of the live stream does not end.
        sent, headers = body(operation, caller, cast), cast.people[caller].headers
        with client.stream(method, cast.path(template), params=query, json=sent, headers=headers) as answer:
            answers[caller] = answer.status_code
            if answer.status_code >= 400:
                answer.read()
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"]
    assert answers == WHO_MAY[operation]


@pytest.mark.parametrize("operation", [row for row, answers in WHO_MAY.items() if answers["anonymous"] == 401])
def test_the_documents_say_which_operations_need_a_token(documents: dict[str, Any], operation: str) -> None:
    method, template = operation.split()
    described = documents[template][method.lower()]
    assert (described["security"] == []) is template.endswith(("/login", "/refresh"))
    assert "401" in described["responses"]


@pytest.mark.parametrize("operation", WHO_MAY)
def test_every_error_in_the_documents_is_a_problem(documents: dict[str, Any], operation: str) -> None:
    method, template = operation.split()
    answers = documents[template][method.lower()]["responses"]
    for status, answer in answers.items():
        if status == "503" and template.startswith("/api/health"):
            assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/HealthReport")
            continue
        assert status < "400" or answer["content"].keys() == {"application/problem+json"}, status
