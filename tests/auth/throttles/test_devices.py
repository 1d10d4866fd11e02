"""Known devices, which sign in during a pause."""

from time import time

import asyncpg
import httpx
import pytest

from services.auth.sessions import devices
from services.contracts.enums import MailKind
from tests.auth.mailbox import Mailbox
from tests.auth.people import People
from tests.auth.throttles.pauses import assert_paused, attempt, end_pauses, make_pauses_last, statuses
from tests.support.canary import PASSWORD


async def test_a_known_device_signs_in_during_a_pause(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient, other = await people.patient(), await people.patient()
    known = (await attempt(client, patient.email, PASSWORD)).json()["deviceToken"]
    others = (await attempt(client, other.email, PASSWORD)).json()["deviceToken"]
    await statuses(client, patient.email, 5)
    await make_pauses_last(owner)
    for made_up in (others, "AAAA", known[:-4] + "AAAA"):
        assert_paused(await attempt(client, patient.email, PASSWORD, deviceToken=made_up), 60)
    answer = await attempt(client, patient.email, PASSWORD, deviceToken=known)
    assert (answer.status_code, answer.json()["deviceToken"]) == (200, known)
    assert_paused(await attempt(client, patient.email, PASSWORD), 60)


async def test_a_reset_by_mail_lets_the_owner_in_while_an_attacker_keeps_guessing(
    client: httpx.AsyncClient, internal: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    await client.post("/api/auth/password-reset", json={"email": patient.email})
    token = (await Mailbox(owner, internal).newest(patient.email, MailKind.PASSWORD_RESET)).token
    body = {"token": token, "password": "another horse battery"}
    done = await client.post("/api/auth/password-reset/confirm", json=body)
    assert done.status_code == 200
    await statuses(client, patient.email, 6)
    await make_pauses_last(owner)
    assert_paused(await attempt(client, patient.email, body["password"]), 60)
    let_in = await attempt(client, patient.email, body["password"], deviceToken=done.json()["deviceToken"])
    assert let_in.status_code == 200


@pytest.mark.parametrize("by", ["change of the password", "age"])
async def test_a_device_is_forgotten(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient, password = await people.patient(), PASSWORD
    known = (await attempt(client, patient.email, PASSWORD)).json()["deviceToken"]
    if by == "age":
        monkeypatch.setattr(devices, "time", lambda: time() + 181 * 86_400)
    else:
        password = "another horse battery"
        changed = await client.post(
            "/api/auth/password", json={"currentPassword": PASSWORD, "password": password}, headers=patient.headers
        )
        assert changed.status_code == 204
    await statuses(client, patient.email, 5)
    await make_pauses_last(owner)
    assert_paused(await attempt(client, patient.email, password, deviceToken=known), 60)
    await end_pauses(owner)
    assert (await attempt(client, patient.email, password, deviceToken=known)).json()["deviceToken"] != known


async def test_a_known_device_has_a_limit_of_its_own(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    known = (await attempt(client, patient.email, PASSWORD)).json()["deviceToken"]
    assert await statuses(client, patient.email, 5, deviceToken=known) == [401] * 5
    await make_pauses_last(owner)
    assert_paused(await attempt(client, patient.email, PASSWORD, deviceToken=known), 60)
    assert (await attempt(client, patient.email, PASSWORD)).status_code == 200


async def test_a_reset_by_mail_ends_the_pause(
    client: httpx.AsyncClient, internal: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    await statuses(client, patient.email, 5)
    await make_pauses_last(owner)
    await client.post("/api/auth/password-reset", json={"email": patient.email})
    mail = await Mailbox(owner, internal).newest(patient.email, MailKind.PASSWORD_RESET)
    body = {"token": mail.token, "password": "another horse battery"}
    assert (await client.post("/api/auth/password-reset/confirm", json=body)).status_code == 200
    assert (await attempt(client, patient.email, body["password"])).status_code == 200
