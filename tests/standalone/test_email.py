"""`make run` with a mail server."""

import asyncio
from pathlib import Path

import httpx

from tests.notification.mail_server import MailServer
from tests.notification.streams import eventually
from tests.standalone.people import book, doctor, patient
from tests.standalone.platform_process import Platform


async def test_people_get_emails_when_there_is_a_mail_server(tmp_path: Path) -> None:
    server = MailServer()
    await server.start()
    platform = Platform(tmp_path / "data", SMTP_URL=server.url, MAIL_FROM="Clinic <no-reply@example.com>")
    try:
        await asyncio.to_thread(platform.start)
        with httpx.Client(base_url=platform.url, timeout=10) as client:
            people = [await asyncio.to_thread(joins, client) for joins in (patient, doctor)]
            await asyncio.to_thread(book, client, *people)

        async def arrived() -> bool:
            return len(server.taken) == 2

        await eventually(arrived, 15)
        assert {message["To"] for message in server.taken} == {person.email for person in people}
        assert {message["From"] for message in server.taken} == {"Clinic <no-reply@example.com>"}
    finally:
        assert await asyncio.to_thread(platform.stop) == 0
        await server.stop()


async def test_a_mail_server_without_a_sender_is_refused_by_name(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "data", SMTP_URL="smtp://127.0.0.1:1")
    process = platform.launch()
    assert await asyncio.to_thread(process.wait, 60) == 2
    assert "MAIL_FROM is missing: expected" in platform.output
    assert "Traceback" not in platform.output
