"""Logins, changes and refusals in the audit trail."""

from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import pytest

from services.auth.app import create
from services.auth.settings import Settings
from services.kit.http.paging import encode_cursor
from services.standalone.databases import DatabaseUrls
from tests.auth.people import People, Person
from tests.support.canary import PASSWORD
from tests.support.running import client_of


async def entries(client: httpx.AsyncClient, people: People, **query: Any) -> list[dict[str, Any]]:
    """Return the entries, oldest first."""
    answer = await client.get("/api/auth/audit", params=query, headers=(await people.admin()).headers)
    assert answer.status_code == 200, answer.text
    return list(reversed(answer.json()["items"]))


def actions_of(found: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(one["action"], one["code"]) for one in found]


async def log_in(client: httpx.AsyncClient, email: str, password: str) -> httpx.Response:
    return await client.post("/api/auth/login", json={"email": email, "password": password})


async def test_successful_and_failed_logins_are_in_the_audit_trail(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    assert (await log_in(client, patient.email, "not the one")).status_code == 401
    found = await entries(client, people, target=patient.id)
    assert actions_of(found) == [
        ("account.created", None),
        ("login.succeeded", None),
        ("login.failed", "invalid_credentials"),
    ]
    assert (found[1]["actorId"], found[1]["sessionId"]) == (patient.id, patient.session_id)
    assert (found[2]["actorId"], found[2]["sessionId"], found[2]["address"]) == (None, None, "127.0.0.1")
    assert patient.email not in str(found)


async def test_a_failed_login_to_an_unknown_address_is_recorded_without_the_address(
    client: httpx.AsyncClient, people: People
) -> None:
    request_id, email = uuid4().hex, f"{uuid4().hex}@example.com"
    await client.post(
        "/api/auth/login", json={"email": email, "password": PASSWORD}, headers={"X-Request-ID": request_id}
    )
    failed = await entries(client, people, action="login.failed")
    (found,) = [one for one in failed if one["requestId"] == request_id]
    assert (found["actorId"], found["targetId"]) == (None, None)
    assert email not in str(found)


async def test_a_login_to_a_suspended_account_is_recorded(client: httpx.AsyncClient, people: People) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    suspended = await client.post(f"/api/doctors/{doctor.id}/suspend?onConflict=keep", headers=admin.headers)
    assert suspended.status_code == 200
    assert (await log_in(client, doctor.email, PASSWORD)).status_code == 401
    found = await entries(client, people, target=doctor.id)
    assert actions_of(found)[2:] == [
        ("doctor.approved", None),
        ("doctor.suspended", None),
        ("login.failed", "account_suspended"),
    ]
    assert {one["actorId"] for one in found[2:4]} == {admin.id}


async def test_a_change_of_password_and_the_sessions_that_it_ends_are_recorded(
    client: httpx.AsyncClient, people: People
) -> None:
    patient = await people.patient()
    other = await people.signed_in("auth", patient.email)
    body = {"currentPassword": "not the one", "password": "another horse battery"}
    assert (await client.post("/api/auth/password", json=body, headers=patient.headers)).status_code == 403
    body["currentPassword"] = PASSWORD
    assert (await client.post("/api/auth/password", json=body, headers=patient.headers)).status_code == 204
    assert (await client.post("/api/auth/logout", headers=patient.headers)).status_code == 204
    found = await entries(client, people, actor=patient.id)
    assert actions_of(found)[2:] == [
        ("access.refused", "wrong_password"),
        ("session.ended", None),
        ("password.changed", None),
        ("session.ended", None),
    ]
    assert [found[3]["targetId"], found[5]["targetId"]] == [other.session_id, patient.session_id]


async def test_changes_of_profile_and_address_are_different_actions(client: httpx.AsyncClient, people: People) -> None:
    patient, path = await people.patient(), "/api/patients/"
    for body in ({"phone": "+4930123456"}, {"email": f"{uuid4().hex}@example.com", "currentPassword": PASSWORD}):
        answer = await client.patch(path + patient.id, json=body, headers=patient.headers)
        assert answer.status_code == 200, answer.text
    assert actions_of(await entries(client, people, actor=patient.id))[1:] == [
        ("account.changed", None),
        ("email.change_requested", None),
    ]


async def test_a_read_by_an_admin_is_recorded_and_one_by_the_owner_is_not(
    client: httpx.AsyncClient, people: People
) -> None:
    patient, stranger, admin = await people.patient(), await people.patient(), await people.admin()
    path = f"/api/patients/{patient.id}"
    statuses = [(await client.get(path, headers=who.headers)).status_code for who in (patient, stranger, admin)]
    assert statuses == [200, 404, 200]
    found = (await entries(client, people, target=patient.id))[2:]
    assert [(one["action"], one["actorId"], one["targetType"]) for one in found] == [
        ("access.refused", stranger.id, "patient"),
        ("record.read", admin.id, "patient"),
    ]


async def test_the_recorded_address_is_the_one_that_the_trusted_proxy_saw(
    settings: Settings, client: httpx.AsyncClient, people: People
) -> None:
    patient = await people.patient()
    behind_one = create(msgspec.structs.replace(settings, trusted_proxy_hops=1))
    async with client_of(behind_one) as proxied:
        await proxied.post(
            "/api/auth/login",
            json={"email": patient.email, "password": PASSWORD},
            headers={"X-Forwarded-For": "203.0.113.9, 198.51.100.7"},
        )
    assert (await entries(client, people, target=patient.id))[-1]["address"] == "198.51.100.7"


async def test_a_request_refused_for_the_callers_role_is_recorded(client: httpx.AsyncClient, people: People) -> None:
    patient: Person = await people.patient()
    doctor = await people.doctor()
    assert (await client.post(f"/api/doctors/{doctor.id}/approve", headers=patient.headers)).status_code == 403
    assert (await client.get("/api/auth/audit", headers=patient.headers)).status_code == 403
    found = (await entries(client, people, actor=patient.id))[1:]
    assert [(one["action"], one["targetType"], one["targetId"]) for one in found] == [
        ("access.refused", "doctor", doctor.id),
        ("access.refused", "audit", None),
    ]


@pytest.mark.parametrize(
    "statement", ["DELETE FROM audit_log", "UPDATE audit_log SET code = 'x'", "TRUNCATE audit_log"]
)
async def test_the_service_may_not_change_what_it_wrote(auth_database: DatabaseUrls, statement: str) -> None:
    connection = await asyncpg.connect(auth_database.application)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)
    await connection.close()


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("from", {"from": "0001-01-01T00:00:00+23:59"}),
        ("to", {"to": "9999-12-31T23:59:59-23:59"}),
        ("cursor", {"cursor": encode_cursor(2**63)}),
    ],
)
async def test_a_filter_that_postgresql_cannot_represent_is_refused(
    client: httpx.AsyncClient, people: People, path: str, query: dict[str, str]
) -> None:
    answer = await client.get("/api/auth/audit", params=query, headers=(await people.admin()).headers)
    assert (answer.status_code, [error["path"] for error in answer.json()["errors"]]) == (400, [path])
