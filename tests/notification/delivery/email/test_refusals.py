"""What an attempt that fails makes of an e-mail: nothing is given up too early."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from services.contracts.enums import Role
from services.contracts.events import UserState
from services.kit.http.service import Service
from services.notification.delivery.worker import delay_seconds
from services.notification.repository import Store
from tests.notification.delivery.email.emails import email_becomes, time_passes
from tests.notification.services import has_metric
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer
from tests.support.running import client_of
from tests.support.streams import Streams, appointment


async def test_a_busy_server_gets_the_same_message_later(
    service: Service,
    client: httpx.AsyncClient,
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    pair: tuple[UserState, UserState],
) -> None:
    patient, doctor = pair
    mail_server.refused[doctor.email] = f"450 4.2.1 <{doctor.email}> try later"
    mail_server.replies.append("451 4.3.0 try later")
    await streams.tell(appointment(*pair))
    for user in pair:
        document = await email_becomes(store, user, status="PENDING", attempts=1, reason="server_busy")
        assert timedelta(seconds=5) < document["nextAttemptAt"] - datetime.now(UTC) < timedelta(seconds=14)
        assert user.email not in document["error"]
    assert mail_server.taken == []
    mail_server.refused.clear()
    await time_passes(store, *pair)
    for user in pair:
        document = await email_becomes(store, user, status="SENT", attempts=2)
        (message,) = mail_server.to(user.email)
        assert message["Message-ID"] == f"<{document['_id']}@clinic.example.com>"
    ids = Counter(message["Message-ID"] for message in mail_server.seen if message["To"] == patient.email)
    assert list(ids.values()) == [2]
    await has_metric(service, 'notification_delivery_retries_total{channel="EMAIL",reason="server_busy"}', 2)
    await has_metric(service, 'notification_deliveries_total{channel="EMAIL",outcome="sent"}', 2)
    assert (await client.get("/api/health")).json()["checks"]["smtp"]["status"] == "ok"


@pytest.mark.usefixtures("client")
async def test_a_refused_recipient_or_message_is_failed_at_once_with_the_servers_words_but_the_address(
    store: Store, streams: Streams, mail_server: MailServer, pair: tuple[UserState, UserState], auth: AuthStub
) -> None:
    patient, doctor = pair
    mail_server.refused[patient.email] = f"550 5.1.1 <{patient.email}>: no such user"
    await streams.tell(appointment(patient, doctor))
    failed = await email_becomes(store, patient, status="FAILED", attempts=1, reason="recipient_refused")
    assert failed["error"] == "550 5.1.1 (address) no such user"
    assert "nextAttemptAt" not in failed
    await email_becomes(store, doctor, status="SENT")
    mail_server.refused.clear()
    third = auth.register(Role.PATIENT)
    mail_server.replies += ["554 5.7.1 $spam", "554 5.7.1 $spam"]
    await streams.tell(appointment(third, auth.register(Role.DOCTOR)))
    failed = await email_becomes(store, third, status="FAILED", attempts=1, reason="message_refused")
    assert failed["error"] == "554 5.7.1 $spam"


@pytest.mark.usefixtures("client")
async def test_a_server_that_refuses_us_is_not_the_recipients_failure(
    store: Store, streams: Streams, mail_server: MailServer, pair: tuple[UserState, UserState]
) -> None:
    mail_server.refused[pair[0].email] = "530 5.7.0 Authentication required"
    await streams.tell(appointment(*pair))
    await email_becomes(store, pair[0], status="PENDING", attempts=1, reason="sender_refused")


async def test_what_is_told_while_the_mail_server_is_away_leaves_when_it_is_back(
    client: httpx.AsyncClient,
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    pair: tuple[UserState, UserState],
) -> None:
    await mail_server.stop()
    await streams.tell(appointment(*pair))
    for user in pair:
        await email_becomes(store, user, status="PENDING", attempts=1, reason="server_unreachable")
    health = await client.get("/api/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["checks"]["smtp"] == {"status": "unavailable"}
    await mail_server.start()
    await time_passes(store, *pair)
    for user in pair:
        await email_becomes(store, user, status="SENT", attempts=2)
        assert len(mail_server.to(user.email)) == 1
    await asyncio.sleep(0.6)
    assert (await client.get("/api/health")).json()["checks"]["smtp"]["status"] == "ok"


async def test_a_server_that_is_too_slow_is_tried_again_with_the_same_message_id(
    emailing: Callable[..., Service],
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    pair: tuple[UserState, UserState],
) -> None:
    mail_server.seconds = 3.0
    async with client_of(emailing(SMTP_TIMEOUT_SECONDS="1")):
        await streams.tell(appointment(*pair))
        for user in pair:
            await email_becomes(store, user, status="PENDING", attempts=1, reason="timed_out")
    mail_server.seconds = 0.0
    async with client_of(emailing()):
        await time_passes(store, *pair)
        documents = [await email_becomes(store, user, status="SENT", attempts=2) for user in pair]
    for user, document in zip(pair, documents, strict=True):
        assert {message["Message-ID"] for message in mail_server.seen if message["To"] == user.email} == {
            f"<{document['_id']}@clinic.example.com>"
        }


@pytest.mark.usefixtures("client")
async def test_the_last_attempt_is_the_thirtieth(
    store: Store, streams: Streams, mail_server: MailServer, pair: tuple[UserState, UserState]
) -> None:
    await mail_server.stop()
    await streams.tell(appointment(*pair))
    for user in pair:
        await email_becomes(store, user, attempts=1, reason="server_unreachable")
    await store["notifications"].update_one({"recipientId": pair[0].id, "channel": "EMAIL"}, {"$set": {"attempts": 28}})
    await time_passes(store, pair[0])
    await email_becomes(store, pair[0], attempts=29, status="PENDING", reason="server_unreachable")
    await time_passes(store, pair[0])
    await email_becomes(store, pair[0], attempts=30, status="FAILED", reason="server_unreachable")
    await email_becomes(store, pair[1], attempts=1, status="PENDING")


def test_an_outage_of_most_of_a_day_gives_nobody_up() -> None:
    for _ in range(100):
        assert 15 * 3600 < sum(delay_seconds(attempts) for attempts in range(1, 30)) < 28 * 3600
