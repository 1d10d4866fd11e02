"""Answers while PostgreSQL or Redis is unavailable."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from services.auth.app import create
from services.auth.settings import Settings
from tests.auth.people import People, doctor_form, patient_form
from tests.support.canary import PASSWORD, new_email
from tests.support.proxy import Proxy
from tests.support.running import client_of
from tests.support.waiting import eventually, without_hang


@pytest.fixture
async def postgres(settings: Settings) -> AsyncIterator[Proxy]:
    async with Proxy.to(settings.auth_database_url) as proxy:
        yield proxy


@pytest.fixture
async def remote(settings: Settings, postgres: Proxy) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that reaches its database through the proxy."""
    there = msgspec.structs.replace(settings, auth_database_url=postgres.url)
    async with client_of(create(there)) as client:
        yield client
        postgres.heal()


def _writes(people_headers: dict[str, str], patient_id: str, refresh_token: str) -> dict[str, dict[str, Any]]:
    return {
        "sign-up": {"method": "POST", "url": "/api/patients/signup", "json": patient_form()},
        "login": {
            "method": "POST",
            "url": "/api/auth/login",
            "json": {"email": new_email(), "password": PASSWORD},
        },
        "refresh": {"method": "POST", "url": "/api/auth/refresh", "json": {"refreshToken": refresh_token}},
        "update": {
            "method": "PATCH",
            "url": f"/api/patients/{patient_id}",
            "json": {"fullname": "Bo"},
            "headers": people_headers,
        },
        "list": {"method": "GET", "url": "/api/doctors"},
        "own": {"method": "GET", "url": "/api/auth", "headers": people_headers},
    }


@pytest.mark.parametrize("what", ["sign-up", "login", "refresh", "update", "list", "own"])
@pytest.mark.parametrize("warm", [True, False])
async def test_a_silent_database_is_a_503(
    remote: httpx.AsyncClient, people: People, postgres: Proxy, what: str, warm: bool
) -> None:
    patient = await people.patient()
    request = _writes(patient.headers, patient.id, patient.refresh_token)[what]
    if warm:  # connections of both pools are open and idle
        assert (await remote.get("/api/doctors")).status_code == 200
        assert (await remote.post("/api/patients/signup", json=patient_form())).status_code == 201
    postgres.hold_replies()
    async with without_hang():
        answer = await remote.request(**request)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    postgres.heal()

    async def is_answered() -> bool:
        return (await remote.request(**request)).status_code != 503

    await eventually(is_answered)


async def test_an_exhausted_pool_is_a_503(client: httpx.AsyncClient, people: People, owner_url: str) -> None:
    patient = await people.patient()
    holder = await asyncpg.connect(owner_url)
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", patient.id)
            change: dict[str, Any] = {
                "url": f"/api/patients/{patient.id}",
                "json": {"fullname": "Bo"},
                "headers": patient.headers,
            }
            async with without_hang():
                answers = await asyncio.gather(*(client.patch(**change) for _ in range(12)))
    finally:
        await holder.close()
    assert {answer.status_code for answer in answers} == {503}
    assert (await client.patch(**change)).status_code == 200


async def test_a_commit_that_fails_is_not_answered_201(client: httpx.AsyncClient, owner_url: str) -> None:
    email = new_email()
    owner = await asyncpg.connect(owner_url)
    try:
        await owner.execute(
            f"""
            CREATE FUNCTION refuse_one() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.email = '{email}' THEN RAISE 'the disk is full' USING ERRCODE = 'disk_full'; END IF;
            RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER refuse_at_commit AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse_one();
            """
        )
        answer = await client.post("/api/patients/signup", json=patient_form(email=email))
        assert answer.status_code == 503
        assert "disk" not in answer.text
        assert not await owner.fetchval("SELECT EXISTS (SELECT FROM users WHERE email = $1)", email)
    finally:
        await owner.execute("DROP TRIGGER refuse_at_commit ON users; DROP FUNCTION refuse_one")
        await owner.close()
    assert (await client.post("/api/patients/signup", json=patient_form(email=email))).status_code == 201


async def test_the_service_starts_and_answers_503_until_its_database_is_there(settings: Settings) -> None:
    async with Proxy.to(settings.auth_database_url) as proxy:
        proxy.cut()
        there = msgspec.structs.replace(settings, auth_database_url=proxy.url)
        async with client_of(create(there)) as client:
            assert (await client.get("/api/health")).status_code == 503
            assert (await client.get("/api/health/live")).status_code == 200
            assert (await client.get("/api/doctors")).status_code == 503
            assert (await client.get("/api/auth/.well-known/jwks.json")).status_code == 200
            proxy.heal()
            async with without_hang():
                while (await client.get("/api/health")).status_code != 200:
                    await asyncio.sleep(0.1)
            assert (await client.get("/api/doctors")).status_code == 200


async def test_accounts_are_served_while_redis_is_away(settings: Settings) -> None:
    async with Proxy.to(settings.redis_url) as proxy:
        proxy.cut()
        there = msgspec.structs.replace(settings, redis_url=proxy.url)
        async with client_of(create(there)) as client:
            health = await client.get("/api/health")
            assert (health.status_code, health.json()["status"]) == (200, "degraded")
            assert (await client.post("/api/doctors/signup", json=doctor_form())).status_code == 201
