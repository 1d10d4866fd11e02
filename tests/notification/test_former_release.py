"""Notifications that the former release stored, with their texts, are read and sent as before and forgotten."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from bson.json_util import loads
from msgspec.structs import replace
from uuid_utils.compat import uuid7

from services.contracts.events import UserErased, UserState
from services.contracts.mails import Mail
from services.notification.repository import Store
from tests.notification.services import migrated, service_of, store_of
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer
from tests.support.running import client_of
from tests.support.streams import Streams
from tests.support.waiting import eventually

STORED = Path(__file__).parent.joinpath("golden", "stored_texts.json").read_text()
WIRE = json.loads(STORED)["wire"]


@pytest.fixture
async def own(mongodb_url: str) -> AsyncIterator[tuple[str, Store]]:
    """A database as that release left it, and its address."""
    url = mongodb_url.replace("/notification_", f"/former_{uuid7().hex[-6:]}_")
    store = store_of(url)
    found = loads(STORED)
    for name in ("notifications", "users", "appointments"):
        await store[name].insert_many(found[name])
    await migrated(url)
    yield url, store
    await store["notifications"].database.client.drop_database(store["notifications"].database.name)
    store.close()


@pytest.fixture
async def users(own: tuple[str, Store], auth: AuthStub) -> dict[str, UserState]:
    """By the local part of the address: bo and cy are patients, ada is their doctor."""
    found = await own[1]["users"].find().to_list(None)
    people = [msgspec.convert({**one, "id": one["_id"]}, UserState) for one in found]
    auth.users |= {one.id: replace(one, email_verified=True) for one in people}
    return {one.email.partition("@")[0]: one for one in people}


async def listed(client: httpx.AsyncClient, auth: AuthStub, user: UserState) -> dict[str, Any]:
    path, headers = f"/api/notifications/{user.id}", auth.bearer(user)
    return {
        channel: (await client.get(path, params={"channel": channel, "limit": 100}, headers=headers)).json()["items"]
        for channel in ("IN_APP", "EMAIL")
    }


async def test_they_are_read_as_before(
    auth: AuthStub, own: tuple[str, Store], streams: Streams, redis_url: str, users: dict[str, UserState]
) -> None:
    async with client_of(service_of(auth, own[0], redis_url)) as client:
        for user in users.values():
            assert await listed(client, auth, user) == WIRE[str(user.id)]
        path = f"/api/notifications/{users['bo'].id}/read"
        marked = await client.post(path, json={"all": True}, headers=auth.bearer(users["bo"]))
        assert marked.json() == {"changed": 6}


async def test_those_that_wait_leave_as_before(
    auth: AuthStub,
    own: tuple[str, Store],
    streams: Streams,
    redis_url: str,
    users: dict[str, UserState],
    mail_server: MailServer,
) -> None:
    mail = msgspec.convert(json.loads(STORED)["waitingMail"], Mail)
    mail = auth.mails[mail.id] = replace(mail, expires_at=mail.expires_at.replace(year=2999))
    for one in await own[1]["notifications"].find({"status": "PENDING"}).to_list(None):
        change = {"$set": {"nextAttemptAt": one["createdAt"]}, "$unset": {"expiresAt": ""}}
        await own[1]["notifications"].update_one({"_id": one["_id"]}, change)
    settings = {"SMTP_URL": mail_server.url, "MAIL_FROM": "a@example.com"}
    async with client_of(service_of(auth, own[0], redis_url, **settings)) as client:

        async def settled() -> bool:
            return not await own[1]["notifications"].count_documents({"status": "PENDING"})

        await eventually(settled)
        subjects = sorted((message["To"], message["Subject"]) for message in mail_server.taken)
        assert subjects == [
            ("ada@example.com", "Termin abgesagt"),
            ("bo@example.com", "Appointment cancelled"),
            ("bo@example.com", "Confirm your e-mail address"),
        ]
        emails = (await listed(client, auth, users["ada"]))["EMAIL"]
        moment = "Dienstag, 1. Dezember 2026, 10:30 Uhr (Europe/Berlin, UTC+01:00)"
        assert f"Der Termin mit Bo Patient am {moment} ist abgesagt." in [one["message"] for one in emails]
    void = await own[1]["notifications"].count_documents({"status": "SKIPPED", "reason": "link_void"})
    assert void == 2


async def test_those_about_an_erased_user_lose_their_texts(
    auth: AuthStub, own: tuple[str, Store], streams: Streams, redis_url: str, users: dict[str, UserState]
) -> None:
    bo = users["bo"]
    erased = replace(bo, full_name="Erased user", email=f"{bo.id}@erased.invalid", version=9, erased=True)
    async with client_of(service_of(auth, own[0], redis_url)) as client:
        await streams.tell(UserErased(user=erased))
        await streams.settled()
        for name in ("notifications", "users"):
            assert "Bo Patient" not in str(await own[1][name].find().to_list(None))
        titles = {one["message"] for one in (await listed(client, auth, users["ada"]))["IN_APP"][1:]}
        titles = {title for title in titles if "Cy Away" not in title}
        assert titles == {"Termin angefragt", "Termin geändert", "Termin verschoben", "Termin abgesagt"}
        assert {one["message"] for one in (await listed(client, auth, bo))["IN_APP"]} == {""}
        assert "Cy Away" in (await listed(client, auth, users["ada"]))["EMAIL"][1]["message"]
        unsent = {"recipientId": UUID(str(bo.id)), "status": {"$in": ["PENDING", "FAILED"]}}
        assert await own[1]["notifications"].count_documents(unsent) == 0
