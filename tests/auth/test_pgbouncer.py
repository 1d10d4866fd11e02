"""Two replicas behind a PgBouncer in transaction mode, which has fewer connections to the server than they have."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from services.auth import database
from services.auth.app import create
from services.auth.settings import Settings
from services.contracts import streams
from tests.auth.people import People, Person, patient_form
from tests.support.patience import be_patient
from tests.support.pgbouncer import EXECUTABLE, PgBouncer
from tests.support.running import client_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="PgBouncer is not installed")


@pytest.fixture
def bouncer(settings: Settings, tmp_path: Path) -> Iterator[PgBouncer]:
    with PgBouncer.to(tmp_path, settings.auth_database_url) as bouncer:
        yield bouncer


@pytest.fixture
async def replicas(
    settings: Settings, bouncer: PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[httpx.AsyncClient]]:
    be_patient(monkeypatch)
    monkeypatch.setattr(database, "_ACQUIRE_SECONDS", 30.0)
    monkeypatch.setattr(database, "_COMMAND_SECONDS", 30.0)
    there = msgspec.structs.replace(settings, auth_database_url=bouncer.through(settings.auth_database_url))
    async with client_of(create(there)) as one, client_of(create(there)) as other:
        yield [one, other]


async def _use(client: httpx.AsyncClient, settings: Settings) -> Person:
    patient = await People(client, settings.auth_database_url).patient()
    path = f"/api/patients/{patient.id}"
    renamed = await client.patch(path, json={"fullname": "Another Name"}, headers=patient.headers)
    assert renamed.status_code == 200, renamed.text
    assert (await client.get(path, headers=patient.headers)).json()["fullname"] == "Another Name"
    refreshed = await client.post("/api/auth/refresh", json={"refreshToken": patient.refresh_token})
    assert refreshed.status_code == 200, refreshed.text
    sessions = (await client.get("/api/auth/sessions", headers=patient.headers)).json()
    assert len(sessions["items"]) == 1
    return patient


async def test_users_sign_up_sign_in_and_change_and_the_events_are_published(
    replicas: list[httpx.AsyncClient], settings: Settings, redis_url: str
) -> None:
    patients = await asyncio.gather(*(_use(client, settings) for client in replicas * 2))

    async def told() -> bool:
        async with Redis.from_url(redis_url, decode_responses=True) as redis:
            entries: Any = await redis.xrange(streams.USERS.name)
        return {one.id for one in patients} <= {fields["aggregateid"] for _, fields in entries}

    await eventually(told)


async def test_a_pgbouncer_that_was_killed_is_an_outage_until_it_is_back(
    replicas: list[httpx.AsyncClient], bouncer: PgBouncer, settings: Settings
) -> None:
    person = await _use(replicas[0], settings)
    login = {"email": person.email, "password": "wrong password of somebody"}

    async def answers(status: int) -> bool:
        return {(await client.post("/api/patients/login", json=login)).status_code for client in replicas} == {status}

    assert await answers(401)
    bouncer.kill()
    await eventually(lambda: answers(503))
    bouncer.start()
    await eventually(lambda: answers(401))

    async def signs_up(client: httpx.AsyncClient) -> bool:
        return (await client.post("/api/patients/signup", json=patient_form())).status_code == 201

    for client in replicas:
        await eventually(partial(signs_up, client))
