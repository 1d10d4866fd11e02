"""`make run` with a mail server."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pymongo
import pytest

from services.standalone.servers import Servers
from tests.standalone.people import book, doctor, patient
from tests.standalone.platform import Platform
from tests.support.canary import PASSWORD
from tests.support.mail_server import MailServer, part
from tests.support.waiting import eventually


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    server = MailServer()
    await server.start()
    yield server
    await server.stop()


async def test_users_get_emails_through_the_mail_server(server: MailServer, tmp_path: Path) -> None:
    settings = {"SMTP_URL": server.url, "LINK_BASE_URL": "https://app.example.com"}
    platform = Platform(tmp_path / "data", MAIL_FROM="Clinic <no-reply@example.com>", **settings)
    tokens: list[str] = []
    try:
        await asyncio.to_thread(platform.started)
        with httpx.Client(base_url=platform.url, timeout=10) as client:
            people = []
            for sign_up in (patient, doctor):
                people.append(await asyncio.to_thread(sign_up, client))
                token = await next_token(server, tokens, "/verify-email")
                verified = await asyncio.to_thread(client.post, "/api/auth/verify-email", json={"token": token})
                assert verified.status_code == 204
            await asyncio.to_thread(book, client, *people)
        await eventually(lambda: len(server.taken) == 4)
        assert Counter((message["To"], message["Subject"]) for message in server.taken) == Counter(
            (person.email, subject)
            for person in people
            for subject in ("Confirm your e-mail address", "Appointment requested")
        )
        assert {message["From"] for message in server.taken} == {"Clinic <no-reply@example.com>"}
    finally:
        assert await asyncio.to_thread(platform.stop) == 0


async def next_token(server: MailServer, tokens: list[str], page: str) -> str:
    """Wait for the next mail, append the token of its link to `tokens`, and return it."""
    await eventually(lambda: len(server.taken) > len(tokens))
    (link,) = [line for line in part(server.taken[-1], "plain").splitlines() if line.startswith("https://")]
    url = urlsplit(link)
    assert (url.netloc, url.path) == ("app.example.com", page)
    (token,) = parse_qs(url.query)["token"]
    tokens.append(token)
    return token


async def test_mails_verify_an_address_and_reset_a_password_and_nothing_keeps_their_secrets(
    server: MailServer, tmp_path: Path
) -> None:
    settings = {"SMTP_URL": server.url, "MAIL_FROM": "no-reply@example.com", "LINK_BASE_URL": "https://app.example.com"}
    platform = Platform(tmp_path / "data", LOG_LEVEL="DEBUG", **settings)
    tokens: list[str] = []
    try:
        await asyncio.to_thread(platform.started)
        async with httpx.AsyncClient(base_url=platform.url, timeout=10, trust_env=False) as client:

            async def post(path: str, **body: str) -> int:
                return (await client.post(path, json=body)).status_code

            with httpx.Client(base_url=platform.url, timeout=10) as blocking:
                person = await asyncio.to_thread(patient, blocking)
            token = await next_token(server, tokens, "/verify-email")
            assert await post("/api/auth/verify-email", token=token) == 204
            assert (await client.get("/api/auth", headers=person.headers)).json()["emailVerifiedAt"]
            assert await post("/api/auth/verify-email", token=token) == 400

            assert await post("/api/auth/password-reset", email=person.email) == 202
            unused = await next_token(server, tokens, "/reset-password")
            assert await post("/api/auth/password-reset", email=person.email) == 202
            token = await next_token(server, tokens, "/reset-password")
            assert token != unused
            new = "another horse, another battery"
            assert await post("/api/auth/password-reset/confirm", token=token, password=new) == 200
            await next_token(server, tokens, "/reset-password")  # of the notice about the change
            for password, expected in ((new, 200), (PASSWORD, 401)):
                assert await post("/api/patients/login", email=person.email, password=password) == expected
            assert await post("/api/auth/password-reset/confirm", token=unused, password=new) == 400
        assert {message["To"] for message in server.taken} == {person.email}
        assert len({message["Message-ID"] for message in server.taken}) == len(tokens) == 4
    finally:
        assert await asyncio.to_thread(platform.stop) == 0
    await assert_not_kept(platform, tokens, person.email)


async def assert_not_kept(platform: Platform, tokens: list[str], email: str) -> None:
    logs = {path.name: path.read_text(errors="replace") for path in platform.data_dir.glob("*.log")}
    logs["platform"] = platform.output
    assert {"platform", "postgres.log", "mongodb.log", "valkey.log"} <= set(logs)
    documents = await asyncio.to_thread(stored, platform.data_dir)
    sent = {"EMAIL_VERIFICATION": 1, "PASSWORD_RESET": 2, "PASSWORD_CHANGED": 1}
    assert Counter(one["type"] for one in documents["notifications"]) == sent
    for secret in tokens:
        for text in (*logs.values(), str(documents)):
            assert secret not in text
    # The directory of users holds e-mail addresses, for mails about appointments.
    del documents["users"]
    for text in (*logs.values(), str(documents)):
        assert email not in text


def stored(data_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the documents in MongoDB by collection."""
    with (
        Servers(data_dir, durable=False, postgres=False, redis=False) as servers,
        pymongo.MongoClient[dict[str, Any]](servers.mongodb_url, uuidRepresentation="standard") as mongodb,
    ):
        database = mongodb["notification"]
        return {name: list(database[name].find()) for name in database.list_collection_names()}


async def test_a_mail_server_without_a_sender_is_refused_by_name(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "data", SMTP_URL="smtp://127.0.0.1:1")
    platform.start()
    assert await asyncio.to_thread(platform.wait, 60) == 2
    assert "MAIL_FROM is missing: expected" in platform.output
    assert "Traceback" not in platform.output
