"""Mails with a secret are sent soon or not at all, and nothing of the secret stays behind."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import Role
from services.contracts.events import MailRequested, UserState
from services.kit.http.service import Service
from services.notification.delivery.worker import delay_seconds
from services.notification.repository import Store
from tests.notification.delivery.email.account_mails.mails import (
    BASE,
    RESET,
    VERIFY,
    assert_silent,
    becomes,
    requested,
    time_passes,
)
from tests.notification.delivery.email.emails import FROM
from tests.notification.services import environment_of, has_metric
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer, part
from tests.support.process import served
from tests.support.streams import Streams


@pytest.mark.parametrize("first", ["auth", "smtp"])
async def test_what_waits_has_no_secret_in_it_and_leaves_when_it_can(
    service: Service,
    client: httpx.AsyncClient,
    auth: AuthStub,
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    patient: UserState,
    first: str,
) -> None:
    mail, event_id = auth.mail(patient, VERIFY), uuid7()
    admin = auth.bearer(auth.register(Role.ADMIN))
    # After this answer the service has auth's keys; without them it would not read the event either.
    assert (await client.get("/api/notifications/stats", headers=admin)).status_code == 200
    if first == "auth":
        auth.up = False
    else:
        await mail_server.stop()
    try:
        await streams.tell(requested(mail), event_id=event_id)
        reason = "contact_unavailable" if first == "auth" else "server_unreachable"
        waiting = await becomes(store, event_id, status="PENDING", attempts=1, reason=reason)
    finally:
        auth.up = True
    if first == "smtp":
        await mail_server.start()
    assert_silent(str(waiting), mail)
    assert msgspec.json.decode(waiting["event"]) == {
        "type": "MailRequested",
        "mailId": str(mail.id),
        "kind": "VERIFY_EMAIL",
    }
    assert timedelta(seconds=5) < waiting["nextAttemptAt"] - datetime.now(UTC) < timedelta(seconds=14)
    assert waiting.get("recipientId") == (None if first == "auth" else patient.id)
    stats = (await client.get("/api/notifications/stats", headers=admin)).json()
    assert stats["byType"]["EMAIL_VERIFICATION"] >= 1
    await time_passes(store, event_id)
    await becomes(store, event_id, status="SENT", attempts=2)
    (message,) = mail_server.to(patient.email)
    assert mail.token in part(message, "plain")
    await has_metric(service, f'notification_delivery_retries_total{{channel="EMAIL",reason="{reason}"}}', 1)
    await has_metric(service, 'notifications_added_total{channel="EMAIL",type="EMAIL_VERIFICATION"}', 1)


async def test_a_link_that_is_good_no_more_is_skipped_and_not_tried_again(
    service: Service, client: httpx.AsyncClient, auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer
) -> None:
    event_id = uuid7()
    await streams.tell(MailRequested(mail_id=uuid7(), kind=RESET), event_id=event_id)
    skipped = await becomes(store, event_id, status="SKIPPED", attempts=1, reason="link_void")
    assert not {"nextAttemptAt", "failedAt", "sentAt"} & {name for name, value in skipped.items() if value}
    await has_metric(service, 'notification_deliveries_total{channel="EMAIL",outcome="skipped"}', 1)
    admin = auth.bearer(auth.register(Role.ADMIN))
    letters = (await client.get("/api/notifications/dead-letters", headers=admin)).json()["items"]
    assert str(skipped["_id"]) not in [letter["id"] for letter in letters]
    again = await client.post(f"/api/notifications/dead-letters/{skipped['_id']}/replay", headers=admin)
    assert again.status_code == 404
    assert mail_server.seen == []


@pytest.mark.usefixtures("client")
async def test_the_attempts_end_when_the_secret_expires_and_not_before(
    auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer, patient: UserState
) -> None:
    await mail_server.stop()
    soon, late = uuid7(), uuid7()
    expiring = auth.mail(patient, RESET, expires_at=datetime.now(UTC) + timedelta(seconds=5))
    await streams.tell(requested(expiring), event_id=soon)
    await streams.tell(requested(auth.mail(patient, RESET)), event_id=late)
    skipped = await becomes(store, soon, status="SKIPPED", reason="expired")
    assert skipped["error"].startswith("It expires before another attempt. The last one: server_unreachable, ")
    assert "nextAttemptAt" not in skipped
    await becomes(store, late, status="PENDING", reason="server_unreachable")
    # Others are given up after thirty.
    await store["notifications"].update_one({"eventId": late}, {"$set": {"attempts": 40}})
    await time_passes(store, late)
    waiting = await becomes(store, late, status="PENDING", attempts=41, reason="server_unreachable")
    assert waiting["nextAttemptAt"] - datetime.now(UTC) < timedelta(minutes=13)
    # What was known of its expiry counts while auth is away, too.
    auth.up = False
    try:
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        await store["notifications"].update_one({"eventId": late}, {"$set": {"expiresAt": hour_ago}})
        await time_passes(store, late)
        await becomes(store, late, status="SKIPPED", attempts=42, reason="expired")
    finally:
        auth.up = True


def test_the_pauses_of_what_is_urgent_stay_short() -> None:
    for attempts in range(1, 60):
        assert delay_seconds(attempts, urgent=True) <= 750
        assert attempts < 10 or delay_seconds(attempts) > 1800


async def test_a_refusal_that_quotes_the_secret_is_kept_without_and_can_be_replayed(
    client: httpx.AsyncClient,
    auth: AuthStub,
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    patient: UserState,
) -> None:
    mail, event_id = auth.mail(patient, RESET), uuid7()
    mail_server.replies.append(f"554 5.7.1 {patient.email}: {BASE}reset-password?token={mail.token} is on a list")
    await streams.tell(requested(mail), event_id=event_id)
    failed = await becomes(store, event_id, status="FAILED", reason="message_refused", error="554 5.7.1")
    assert_silent(str(failed), mail)
    admin = auth.bearer(auth.register(Role.ADMIN))
    letters = (await client.get("/api/notifications/dead-letters", headers=admin)).json()["items"]
    (letter,) = [one for one in letters if one["id"] == str(failed["_id"])]
    assert letter == {
        "id": str(event_id),
        "kind": "DELIVERY",
        "reason": "message_refused",
        "error": "554 5.7.1",
        "diedAt": letter["diedAt"],
        "eventId": str(event_id),
        "stream": None,
        "entryId": None,
        "eventType": None,
        "appointmentId": None,
        "recipientId": str(patient.id),
        "channel": "EMAIL",
        "notificationType": "PASSWORD_RESET",
        "attempts": 1,
    }
    answer = await client.post(f"/api/notifications/dead-letters/{event_id}/replay", headers=admin)
    assert (answer.status_code, answer.json()["outcome"]) == (200, "PENDING")
    await becomes(store, event_id, status="SENT")
    (message,) = mail_server.to(patient.email)
    assert mail.token in part(message, "plain")


async def test_its_reader_sees_it_among_the_emails_and_not_in_the_inbox(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, streams: Streams, patient: UserState
) -> None:
    event_id = uuid7()
    await streams.tell(requested(auth.mail(patient, RESET)), event_id=event_id)
    sent = await becomes(store, event_id, status="SENT")
    path, mine = f"/api/notifications/{patient.id}", auth.bearer(patient)
    assert (await client.get(path, headers=mine)).json()["items"] == []
    assert (await client.get(f"{path}?unread=true", headers=mine)).json()["items"] == []
    (item,) = (await client.get(f"{path}?channel=EMAIL&type=PASSWORD_RESET", headers=mine)).json()["items"]
    assert (item["id"], item["type"], item["status"]) == (str(sent["_id"]), "PASSWORD_RESET", "SENT")
    assert (item["appointmentId"], item["patientId"], item["doctorId"]) == (None, None, None)
    assert item["message"] == "Someone asked to reset the password of the account with this e-mail address."
    stranger = auth.bearer(auth.register(Role.DOCTOR))
    assert (await client.get(f"{path}?channel=EMAIL", headers=stranger)).status_code == 404


async def test_no_log_metric_or_store_has_the_secret_or_names_anybody(
    auth: AuthStub,
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    mongodb_url: str,
    redis_url: str,
) -> None:
    user = auth.register(Role.PATIENT, "Letter Canary")
    refused = auth.register(Role.PATIENT, "Letter Refused")
    mail_server.refused[refused.email] = f"450 4.2.1 <{refused.email}> Letter Refused is busy"
    mails = {uuid7(): auth.mail(one, kind) for one in (user, refused) for kind in (RESET, VERIFY)}
    for event_id, mail in mails.items():
        await streams.tell(requested(mail), event_id=event_id)
    environment = {
        **environment_of(auth, mongodb_url, redis_url),
        "SMTP_URL": mail_server.url,
        "MAIL_FROM": FROM,
        "LINK_BASE_URL": BASE,
        "LOG_LEVEL": "DEBUG",
    }
    async with served("notification", environment) as replica:
        for event_id, mail in mails.items():
            state = {"status": "SENT"} if mail.user_id == user.id else {"status": "PENDING", "reason": "server_busy"}
            await becomes(store, event_id, **state)
        metrics = (await replica.internal.get("/metrics")).text
        assert await asyncio.to_thread(replica.process.stop) == 0, replica.process.output
        logs = replica.process.output
    database = store["notifications"].database
    stored = [
        str(document) for name in await database.list_collection_names() async for document in database[name].find()
    ]
    streamed = str(await streams.redis.xrange("auth.users"))
    assert "delivery put off" in logs
    assert "notification_deliveries_total" in metrics
    for mail in mails.values():
        assert str(mail.id) in streamed
        for text in (logs, metrics, streamed, *stored):
            assert_silent(text, mail)
    assert len(mail_server.to(user.email)) == 2
