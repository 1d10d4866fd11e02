"""Limits by the client's network address, and of what is throttled besides logins."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import pytest

from services.auth.app import create
from services.auth.models import EXPIRING
from services.auth.settings import Settings
from services.kit.metrics import create_registry
from services.kit.postgres.clean_up import CleanUp
from services.kit.postgres.database import Database
from services.standalone.databases import DatabaseUrls
from tests.auth.people import People, patient_form
from tests.auth.throttles.pauses import CLIENT, assert_paused, attempt, make_pauses_last
from tests.support.canary import PASSWORD, new_email
from tests.support.running import client_of


@pytest.fixture
async def behind_a_proxy(settings: Settings, owner: asyncpg.Connection) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a replica that counts by network address and trusts one proxy."""
    await owner.execute("DELETE FROM throttles WHERE scope LIKE '%address'")
    there = msgspec.structs.replace(settings, address_limits=True, trusted_proxy_hops=1)
    async with client_of(create(there)) as client:
        yield client


async def test_a_client_that_tries_many_accounts_is_paused(
    behind_a_proxy: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    for _ in range(20):
        assert (await attempt(behind_a_proxy, new_email(), seen_at=CLIENT)).status_code == 401
    await make_pauses_last(owner)
    for forged in (CLIENT, f"198.51.100.1, {CLIENT}", f"{uuid4()},{CLIENT}", f"10.0.0.1, ::1,  {CLIENT} "):
        assert_paused(await attempt(behind_a_proxy, patient.email, PASSWORD, seen_at=forged), 60)
    assert (await attempt(behind_a_proxy, patient.email, PASSWORD, seen_at="198.51.100.1")).status_code == 200


async def test_a_success_does_not_clear_the_count_of_the_client(
    behind_a_proxy: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    own = await people.patient()
    await attempt(behind_a_proxy, new_email(), seen_at=CLIENT)
    assert (await attempt(behind_a_proxy, own.email, PASSWORD, seen_at=CLIENT)).status_code == 200
    await attempt(behind_a_proxy, new_email(), seen_at=CLIENT)
    assert await owner.fetchval("SELECT count FROM throttles WHERE scope = 'login by address'") == 2


async def test_a_known_device_is_not_paused_with_its_network_address(
    behind_a_proxy: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    known = (await attempt(behind_a_proxy, patient.email, PASSWORD, seen_at=CLIENT)).json()["deviceToken"]
    await attempt(behind_a_proxy, new_email(), seen_at=CLIENT)
    await owner.execute("UPDATE throttles SET blocked_until = now() + interval '1 minute' WHERE scope LIKE '%address'")
    assert_paused(await attempt(behind_a_proxy, patient.email, PASSWORD, seen_at=CLIENT), 60)
    answer = await attempt(behind_a_proxy, patient.email, PASSWORD, seen_at=CLIENT, deviceToken=known)
    assert answer.status_code == 200


async def test_sign_ups_from_one_client_are_limited(
    behind_a_proxy: httpx.AsyncClient, owner: asyncpg.Connection
) -> None:
    headers = {"X-Forwarded-For": CLIENT}
    answer = await behind_a_proxy.post("/api/patients/signup", json=patient_form(), headers=headers)
    assert answer.status_code == 201
    await owner.execute("UPDATE throttles SET count = 29 WHERE scope = 'sign-up by address'")
    answer = await behind_a_proxy.post("/api/patients/signup", json=patient_form(), headers=headers)
    assert answer.status_code == 201
    await make_pauses_last(owner)
    assert_paused(await behind_a_proxy.post("/api/patients/signup", json=patient_form(), headers=headers), 60)


async def test_repeated_sign_ups_with_one_address_are_throttled(client: httpx.AsyncClient, people: People) -> None:
    form = patient_form(email=(await people.patient()).email)
    answers = [await client.post("/api/patients/signup", json=form) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [409, 409, 409, 409, 429]


async def test_reset_mails_to_one_address_are_limited(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    for email in ((await people.patient()).email, new_email()):
        body = {"email": email}
        answers = [await client.post("/api/auth/password-reset", json=body) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202] * 3
        await make_pauses_last(owner)
        assert_paused(await client.post("/api/auth/password-reset", json=body), 60)


async def test_guessing_the_current_password_is_throttled(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    body = {"currentPassword": "wrong", "password": "another horse battery"}
    for _ in range(5):
        answer = await client.post("/api/auth/password", json=body, headers=patient.headers)
        assert answer.status_code == 403
    await make_pauses_last(owner)
    assert_paused(await client.post("/api/auth/password", json=body, headers=patient.headers), 60)
    assert (await attempt(client, patient.email, PASSWORD)).status_code == 200


async def test_the_throttles_table_has_no_addresses_and_forgets(
    behind_a_proxy: httpx.AsyncClient, owner: asyncpg.Connection, auth_database: DatabaseUrls
) -> None:
    email = new_email()
    await attempt(behind_a_proxy, email, seen_at=CLIENT)
    rows = [bytes(row["subject"]) for row in await owner.fetch("SELECT subject FROM throttles")]
    assert {len(row) for row in rows} == {32}
    assert not any(email.encode() in row or CLIENT.encode() in row for row in rows)
    await owner.execute("UPDATE throttles SET blocked_until = now() - interval '61 minutes' WHERE scope = 'login'")
    database = Database(auth_database.application, registry=create_registry())
    await database.open()
    await CleanUp(database, create_registry(), *EXPIRING).work(asyncio.Event())
    await database.close()
    scopes = {row["scope"] for row in await owner.fetch("SELECT DISTINCT scope FROM throttles")}
    assert "login" not in scopes
    assert "login by address" in scopes
