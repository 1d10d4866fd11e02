"""Mails with a secret in them: sent soon or not at all, and nothing of the secret stays behind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import MailKind, Role
from services.contracts.events import MailRequested, UserState
from services.contracts.mails import Mail
from services.kit.http.service import Service
from services.kit.settings import SettingsError, load
from services.notification.delivery.schemas import Delivery
from services.notification.delivery.worker import delay_seconds
from services.notification.inbox.schemas import Notification
from services.notification.notifying.schemas import NotificationType
from services.notification.repository import Store
from services.notification.settings import Settings
from tests.notification.conftest import environment_of, has_metric, service_of
from tests.notification.delivery.email.test_email import EPOCH, FROM
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer, part
from tests.support.process import served
from tests.support.running import client_of, metrics_of
from tests.support.streams import Streams
from tests.support.waiting import eventually

BASE = "https://app.example.com/account/"
RESET, VERIFY = MailKind.PASSWORD_RESET, MailKind.VERIFY_EMAIL
NOON = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def emailing(auth: AuthStub, mongodb_url: str, redis_url: str, mail_server: MailServer) -> Callable[..., Service]:
    def create(**more: str) -> Service:
        settings = {"SMTP_URL": mail_server.url, "MAIL_FROM": FROM, "LINK_BASE_URL": BASE}
        return service_of(auth, mongodb_url, redis_url, **settings | more)

    return create


@pytest.fixture
async def service(emailing: Callable[..., Service], streams: Streams) -> Service:
    return emailing()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service) as client:
        yield client


@pytest.fixture
def patient(auth: AuthStub) -> UserState:
    return auth.register(Role.PATIENT, "Bo Patient", time_zone="America/New_York")


def requested(mail: Mail) -> MailRequested:
    return MailRequested(mail_id=mail.id, kind=mail.kind)


async def becomes(store: Store, event_id: Any, **expected: Any) -> dict[str, Any]:
    """The one document of that event, as it is stored, when it is as expected."""
    found: list[dict[str, Any]] = []

    async def holds() -> bool:
        found[:] = await store["notifications"].find({"eventId": event_id}).to_list(None)
        return len(found) == 1 and all(found[0].get(name) == value for name, value in expected.items())

    try:
        await eventually(holds)
    except TimeoutError:
        raise AssertionError(f"not {expected}: {found}") from None
    return found[0]


async def time_passes(store: Store, event_id: Any) -> None:
    waiting = {"eventId": event_id, "nextAttemptAt": {"$exists": True}}
    await store["notifications"].update_one(waiting, {"$set": {"nextAttemptAt": EPOCH}, "$unset": {"reason": ""}})


def assert_silent(text: str, mail: Mail) -> None:
    """Neither the secret nor whom it is for."""
    for secret in (mail.token, mail.token[:20], mail.email, mail.full_name):
        assert secret not in text


@pytest.mark.parametrize(
    ("kind", "locale", "time_zone", "type", "subject", "paragraphs"),
    [
        (
            RESET,
            "en",
            "America/New_York",
            "PASSWORD_RESET",
            "Choose a new password",
            [
                "Someone asked to reset the password of the account with this e-mail address.",
                "To choose a new password, open this link:",
                "https://app.example.com/account/reset-password?token=",
                "It can be used once, until Tuesday, 1 December 2026, 07:00 (America/New_York, UTC-05:00).",
                "If it was not you, do nothing: your password stays as it is.",
                "This message was sent automatically.",
            ],
        ),
        (
            RESET,
            "de-AT",
            "Europe/Vienna",
            "PASSWORD_RESET",
            "Neues Passwort wählen",
            [
                "Für das Konto mit dieser E-Mail-Adresse wurde ein neues Passwort angefordert.",
                "Um ein neues Passwort zu wählen, öffnen Sie diesen Link:",
                "https://app.example.com/account/reset-password?token=",
                "Er gilt nur einmal und nur bis Dienstag, 1. Dezember 2026, 13:00 Uhr (Europe/Vienna, UTC+01:00).",
                "Wenn Sie das nicht waren, brauchen Sie nichts zu tun: Ihr Passwort bleibt unverändert.",
                "Diese Nachricht wurde automatisch versandt.",
            ],
        ),
        (
            VERIFY,
            "fr",
            "UTC",
            "EMAIL_VERIFICATION",
            "Confirm your e-mail address",
            [
                "Someone entered this e-mail address for an account.",
                "To confirm that it is yours, open this link:",
                "https://app.example.com/account/verify-email?token=",
                "It can be used once, until Tuesday, 1 December 2026, 12:00 (UTC).",
                "If it was not you, do nothing: the address stays unconfirmed.",
                "This message was sent automatically.",
            ],
        ),
        (
            VERIFY,
            "de",
            "Europe/Berlin",
            "EMAIL_VERIFICATION",
            "E-Mail-Adresse bestätigen",
            [
                "Diese E-Mail-Adresse wurde für ein Konto angegeben.",
                "Um zu bestätigen, dass sie Ihnen gehört, öffnen Sie diesen Link:",
                "https://app.example.com/account/verify-email?token=",
                "Er gilt nur einmal und nur bis Dienstag, 1. Dezember 2026, 13:00 Uhr (Europe/Berlin, UTC+01:00).",
                "Wenn Sie das nicht waren, brauchen Sie nichts zu tun: Die Adresse bleibt unbestätigt.",
                "Diese Nachricht wurde automatisch versandt.",
            ],
        ),
        (
            MailKind.PASSWORD_CHANGED,
            "en",
            "UTC",
            "PASSWORD_CHANGED",
            "Your account was changed",
            [
                "The password of your account was changed.",
                "If this was not you, open this link and choose a new password:",
                "https://app.example.com/account/reset-password?token=",
                "It can be used once, until Tuesday, 1 December 2026, 12:00 (UTC).",
                "This takes the change back and ends all sessions. If it was you, do nothing.",
                "This message was sent automatically.",
            ],
        ),
        (
            MailKind.EMAIL_CHANGED,
            "de",
            "UTC",
            "EMAIL_CHANGED",
            "Ihr Konto wurde geändert",
            [
                "Für Ihr Konto wurde eine andere E-Mail-Adresse angefordert.",
                "Wenn Sie das nicht waren, öffnen Sie diesen Link und wählen Sie ein neues Passwort:",
                "https://app.example.com/account/reset-password?token=",
                "Er gilt nur einmal und nur bis Dienstag, 1. Dezember 2026, 12:00 Uhr (UTC).",
                "Das nimmt die Änderung zurück und beendet alle Sitzungen. Wenn Sie es waren, tun Sie nichts.",
                "Diese Nachricht wurde automatisch versandt.",
            ],
        ),
    ],
)
@pytest.mark.usefixtures("client")
async def test_a_link_is_mailed_in_its_readers_language_and_zone(
    auth: AuthStub,
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    kind: MailKind,
    locale: str,
    time_zone: str,
    type: str,
    subject: str,
    paragraphs: list[str],
) -> None:
    user = auth.register(Role.PATIENT, "Bo <b>Visit evil.test</b>", time_zone=time_zone, locale=locale)
    mail, event_id = auth.mail(user, kind, expires_at=NOON), uuid7()
    await streams.tell(requested(mail), event_id=event_id)
    stored = await becomes(store, event_id, status="SENT", attempts=1)
    (message,) = mail_server.to(user.email)
    assert (message["From"], message["Subject"]) == (FROM, subject)
    assert message["Message-ID"] == f"<{stored['_id']}@clinic.example.com>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == stored["createdAt"].replace(microsecond=0)
    link = paragraphs[2] + mail.token
    assert part(message, "plain") == "\n\n".join([*paragraphs[:2], link, *paragraphs[3:]]) + "\n"
    assert f'<p><a href="{link}">{link}</a></p>' in part(message, "html")
    assert f'<html lang="{locale[:2] if locale != "fr" else "en"}">' in part(message, "html")
    # A name that somebody typed is no way to write to another's address.
    assert "evil" not in str(message)
    assert (stored["type"], stored["recipientId"]) == (type, user.id)
    assert not {"message", "nextAttemptAt", "appointmentId", "patientId", "doctorId"} & set(stored)
    assert_silent(str(stored), mail)


async def test_without_a_front_end_the_mail_has_a_code(
    auth: AuthStub,
    emailing: Callable[..., Service],
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    patient: UserState,
) -> None:
    mail, event_id = auth.mail(patient, RESET), uuid7()
    async with client_of(emailing(LINK_BASE_URL="")):
        await streams.tell(requested(mail), event_id=event_id)
        await becomes(store, event_id, status="SENT")
    (message,) = mail_server.to(patient.email)
    assert f"To choose a new password, enter this code:\n\n{mail.token}\n\n" in part(message, "plain")
    assert f"<p>{mail.token}</p>" in part(message, "html")
    assert "href" not in part(message, "html")


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
    admin = auth.bearer(auth.register(Role.ADMIN))
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
        assert attempts < 9 or delay_seconds(attempts) > 1800


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


@pytest.mark.parametrize("type", NotificationType)
@pytest.mark.parametrize("missing", ["appointmentId", "patientId", "doctorId"])
def test_what_is_about_an_appointment_still_has_all_of_it(type: NotificationType, missing: str) -> None:
    now = datetime.now(UTC).isoformat()
    ids = {"id": str(uuid7()), "recipientId": str(uuid7()), "eventId": str(uuid7())}
    rest = dict.fromkeys(("sentAt", "readAt", "failedAt", "replayedAt", "nextAttemptAt", "reason", "error"))
    fields = {**ids, **rest, "channel": "EMAIL", "type": type, "status": "SENT", "message": "", "createdAt": now}
    appointment = {name: str(uuid7()) for name in ("appointmentId", "patientId", "doctorId")}
    whole = {**fields, "attempts": 1, **(appointment if type.is_about_appointment else dict.fromkeys(appointment))}
    other = {**whole, missing: None if type.is_about_appointment else str(uuid7())}
    assert msgspec.convert(whole, Notification).type is type
    assert msgspec.convert(whole, Delivery).type is type
    with pytest.raises(msgspec.ValidationError, match="ids of an appointment"):
        msgspec.convert(other, Notification)
    if missing == "appointmentId":
        with pytest.raises(msgspec.ValidationError, match="an appointment where"):
            msgspec.convert(other, Delivery)


@pytest.mark.parametrize(
    ("base", "good"),
    [
        ("https://app.example.com", True),
        ("https://app.example.com/account/", True),
        ("http://localhost:3000", True),
        ("http://127.0.0.1", True),
        ("http://app.example.com", False),
        ("http://localhost.example.com", False),
        ("https://app.example.com?a=b", False),
        ("https://app.example.com/#", False),
        ("https://user:password@app.example.com", False),
        ("https://app.example.com\n", False),
        ("javascript:alert(1)", False),
        ("https://", False),
    ],
)
def test_links_lead_to_an_https_address_or_to_this_machine(auth: AuthStub, base: str, good: bool) -> None:
    environment = environment_of(auth, "mongodb://127.0.0.1", "redis://127.0.0.1") | {"LINK_BASE_URL": base}
    if good:
        assert load(Settings, environment).link_base_url == base
    else:
        with pytest.raises(SettingsError, match="LINK_BASE_URL is malformed: expected an https URL"):
            load(Settings, environment)


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
