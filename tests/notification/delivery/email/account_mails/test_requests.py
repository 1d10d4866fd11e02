"""Which of auth's requests make a mail."""

import asyncio

import pytest
from uuid_utils.compat import uuid7

from services.contracts.events import MailRequested, UserState
from services.notification.repository import Store
from tests.notification.delivery.email.account_mails.mails import (
    RESET,
    VERIFY,
    assert_silent,
    becomes,
    requested,
)
from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer, part
from tests.support.running import client_of, metrics_of
from tests.support.streams import Streams


@pytest.mark.usefixtures("client")
async def test_an_event_makes_one_mail_and_another_event_another(
    auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer, patient: UserState
) -> None:
    mails = {uuid7(): auth.mail(patient, RESET) for _ in range(2)}
    for event_id, mail in mails.items():
        await asyncio.gather(*(streams.tell(requested(mail), event_id=event_id) for _ in range(3)))
        await becomes(store, event_id, status="SENT", recipientId=patient.id)
        # Once more, now that the recipient is known.
        await streams.tell(requested(mail), event_id=event_id)
    await streams.settled()
    await asyncio.sleep(1.5)
    found = mail_server.to(patient.email)
    assert len({message["Message-ID"] for message in found}) == len(found) == 2
    for event_id, message, mail in zip(mails, found, mails.values(), strict=True):
        assert mail.token in part(message, "plain")
        await becomes(store, event_id, status="SENT", attempts=1)


async def test_without_a_mail_server_it_is_counted_and_said_once(
    auth: AuthStub,
    store: Store,
    streams: Streams,
    patient: UserState,
    mongodb_url: str,
    redis_url: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    mails = [auth.mail(patient, kind) for kind in (RESET, VERIFY)]
    event_ids = [uuid7() for _ in mails]
    service = service_of(auth, mongodb_url, redis_url)
    async with client_of(service):
        for event_id, mail in zip(event_ids, mails, strict=True):
            await streams.tell(requested(mail), event_id=event_id)
        await streams.settled()
        metrics = await metrics_of(service)
    assert metrics["notification_mails_unsendable_total"] == 2
    assert await store["notifications"].count_documents({"eventId": {"$in": event_ids}}) == 0
    said = capfd.readouterr().out
    assert said.count("SMTP_URL is not set") == 1
    for mail in mails:
        assert_silent(said, mail)
        assert str(mail.id) not in said


@pytest.mark.usefixtures("client")
async def test_an_event_of_before_its_kind_was_told_makes_the_same_mail(
    auth: AuthStub, store: Store, streams: Streams, patient: UserState
) -> None:
    known, unknown = uuid7(), uuid7()
    await streams.tell(MailRequested(mail_id=uuid7()), event_id=unknown)
    await streams.tell(MailRequested(mail_id=auth.mail(patient, VERIFY).id), event_id=known)
    await becomes(store, known, status="SENT", type="EMAIL_VERIFICATION")
    await streams.settled()
    assert await store["notifications"].count_documents({"eventId": unknown}) == 0
