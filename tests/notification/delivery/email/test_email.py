"""E-mails, over sockets to a real SMTP server: each one once, and none given up too early."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.contracts.enums import Role, UserStatus
from services.contracts.events import UserState, UserUpdated
from services.kit.http.service import Service
from services.kit.internal import InternalClient
from services.kit.settings import SettingsError
from services.notification.delivery.email.composer import Email, EmailComposer
from services.notification.delivery.email.repository import MailAllowances
from services.notification.delivery.email.sender import EmailSender
from services.notification.delivery.email.smtp import SmtpConnections, is_confidential
from services.notification.delivery.repository import DeliveryRepository
from services.notification.delivery.schemas import Claim
from services.notification.delivery.worker import DeliveryMetrics, DeliveryWorker, delay_seconds
from services.notification.directory.repository import UserRepository
from services.notification.directory.service import Directory
from services.notification.repository import Store
from services.standalone.servers import Servers
from tests.notification.conftest import environment_of, has_metric, service_of, store_of
from tests.support.auth_stub import INTERNAL_TOKEN, AuthStub
from tests.support.certificates import server_certificate
from tests.support.mail_server import MailServer, part
from tests.support.process import launched
from tests.support.running import client_of, metrics_of
from tests.support.streams import Streams, appointment
from tests.support.waiting import eventually

FROM = "Example Clinic <no-reply@clinic.example.com>"
EPOCH = datetime.fromtimestamp(0, UTC)


@pytest.fixture
def emailing(auth: AuthStub, mongodb_url: str, redis_url: str, mail_server: MailServer) -> Callable[..., Service]:
    def create(**more: str) -> Service:
        settings = {"SMTP_URL": mail_server.url, "MAIL_FROM": FROM} | more
        return service_of(auth, mongodb_url, redis_url, **settings)

    return create


@pytest.fixture
async def service(emailing: Callable[..., Service], streams: Streams) -> Service:
    return emailing()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service) as client:
        yield client


@pytest.fixture
def pair(auth: AuthStub) -> tuple[UserState, UserState]:
    return auth.register(Role.PATIENT, "Bo Patient"), auth.register(Role.DOCTOR, "Ada Doctor")


async def email_to(store: Store, user: UserState) -> dict[str, Any]:
    """The one e-mail to that person, as it is stored."""
    (found,) = await store["notifications"].find({"recipientId": user.id, "channel": "EMAIL"}).to_list(None)
    return dict(found)


async def email_becomes(store: Store, user: UserState, **expected: Any) -> dict[str, Any]:
    async def holds() -> bool:
        try:
            document = await email_to(store, user)
        except ValueError:
            return False
        return all(document.get(name) == value for name, value in expected.items())

    try:
        await eventually(holds)
    except TimeoutError:
        raise AssertionError(f"not {expected}: {await email_to(store, user)}") from None
    return await email_to(store, user)


async def time_passes(store: Store, *users: UserState) -> None:
    """Until what was put off for these people is due. The next attempt has failed when there is a reason again."""
    waiting = {"recipientId": {"$in": [user.id for user in users]}, "nextAttemptAt": {"$exists": True}}
    await store["notifications"].update_many(waiting, {"$set": {"nextAttemptAt": EPOCH}, "$unset": {"reason": ""}})


@pytest.mark.usefixtures("client")
async def test_each_is_written_to_in_their_own_language_and_zone(
    auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer
) -> None:
    patient = auth.register(Role.PATIENT, "Bo <b>Patient", time_zone="America/New_York")
    doctor = auth.register(Role.DOCTOR, "Ada Doctor", time_zone="Europe/Berlin", locale="de")
    booked = appointment(patient, doctor)
    await streams.tell(booked)
    for user, subject, text, automatic, language in (
        (
            patient,
            "Appointment requested",
            "Your appointment with Ada Doctor on Tuesday, 1 December 2026, 04:30 (America/New_York, UTC-05:00)"
            " has been requested and is not confirmed yet.",
            "This message was sent automatically. Sign in to see the appointment.",
            "en",
        ),
        (
            doctor,
            "Termin angefragt",
            "Ein Termin mit Bo <b>Patient am Dienstag, 1. Dezember 2026, 10:30 Uhr (Europe/Berlin, UTC+01:00)"
            " ist angefragt und wartet auf Ihre Bestätigung.",
            "Diese Nachricht wurde automatisch versandt. Melden Sie sich an, um den Termin zu sehen.",
            "de",
        ),
    ):
        stored = await email_becomes(store, user, status="SENT", attempts=1)
        (message,) = mail_server.to(user.email)
        assert (message["From"], message["Subject"]) == (FROM, subject)
        assert message["Message-ID"] == f"<{stored['_id']}@clinic.example.com>"
        assert message["Auto-Submitted"] == "auto-generated"
        assert message["Date"].datetime == stored["createdAt"].replace(microsecond=0)
        assert part(message, "plain") == f"{text}\n\n{automatic}\n"
        escaped = text.replace("<", "&lt;").replace(">", "&gt;")
        assert f"<p>{escaped}</p>\n<p>{automatic}</p>" in part(message, "html")
        assert f'<html lang="{language}">' in part(message, "html")
        assert "message" not in stored
        assert stored["sentAt"] >= stored["createdAt"]
        assert "nextAttemptAt" not in stored


async def test_the_inbox_shows_the_message_once_and_the_email_to_who_asks(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, streams: Streams, pair: tuple[UserState, UserState]
) -> None:
    await streams.tell(appointment(*pair))
    email = await email_becomes(store, pair[0], status="SENT")
    path, mine = f"/api/notifications/{pair[0].id}", auth.bearer(pair[0])
    (inside,) = (await client.get(path, headers=mine)).json()["items"]
    assert (inside["channel"], inside["status"]) == ("IN_APP", "SENT")
    (outside,) = (await client.get(f"{path}?channel=EMAIL", headers=mine)).json()["items"]
    assert (outside["id"], outside["channel"], outside["readAt"]) == (str(email["_id"]), "EMAIL", None)
    assert (await client.get(f"{path}?channel=EMAIL&unread=true", headers=mine)).json()["items"] == []
    marked = await client.post(f"{path}/read", json={"all": True}, headers=mine)
    assert marked.json() == {"changed": 1}


async def test_without_a_mail_server_there_is_no_email(
    auth: AuthStub,
    store: Store,
    streams: Streams,
    pair: tuple[UserState, UserState],
    mongodb_url: str,
    redis_url: str,
) -> None:
    async with client_of(service_of(auth, mongodb_url, redis_url)):
        await streams.tell(appointment(*pair))
        await streams.settled()
    found = await store["notifications"].find({"recipientId": {"$in": [user.id for user in pair]}}).to_list(None)
    assert [one["channel"] for one in found] == ["IN_APP", "IN_APP"]


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


@pytest.mark.usefixtures("client")
async def test_a_changed_address_counts_at_the_time_of_sending(
    store: Store, streams: Streams, mail_server: MailServer, pair: tuple[UserState, UserState]
) -> None:
    patient, doctor = pair
    await mail_server.stop()
    await streams.tell(appointment(patient, doctor))
    await email_becomes(store, patient, reason="server_unreachable")
    moved = msgspec.structs.replace(patient, email=f"new.{patient.email}", locale="de", version=2)
    await streams.tell(UserUpdated(user=moved))
    await streams.settled()
    await mail_server.start()
    await time_passes(store, patient)
    await email_becomes(store, patient, status="SENT")
    assert mail_server.to(patient.email) == []
    (message,) = mail_server.to(moved.email)
    assert message["Subject"] == "Termin angefragt"
    assert part(message, "plain").startswith("Ihr Termin bei Ada Doctor am ")


@pytest.mark.usefixtures("client")
async def test_somebody_without_an_address_is_written_to_when_there_is_one(
    auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer, pair: tuple[UserState, UserState]
) -> None:
    patient = pair[0]
    auth.users[patient.id] = msgspec.structs.replace(patient, email="")
    await streams.tell(appointment(*pair))
    await email_becomes(store, patient, status="PENDING", attempts=1, reason="no_address")
    # Wait for the doctor's: composing it asks auth for the patient, and so would put the row back.
    await email_becomes(store, pair[1], status="SENT")
    await store["users"].delete_one({"_id": patient.id})
    del auth.users[patient.id]
    await time_passes(store, patient)
    await email_becomes(store, patient, status="PENDING", attempts=2, reason="no_address")
    auth.up = False
    try:
        await time_passes(store, patient)
        await email_becomes(store, patient, status="PENDING", attempts=3, reason="contact_unavailable")
    finally:
        auth.up = True
    auth.users[patient.id] = patient
    await time_passes(store, patient)
    await email_becomes(store, patient, status="SENT", attempts=4)
    assert len(mail_server.to(patient.email)) == 1


@pytest.mark.usefixtures("client")
async def test_a_suspended_person_still_hears_of_their_visit(
    auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer, pair: tuple[UserState, UserState]
) -> None:
    auth.users[pair[0].id] = msgspec.structs.replace(pair[0], status=UserStatus.SUSPENDED)
    await streams.tell(appointment(*pair))
    await email_becomes(store, pair[0], status="SENT")
    assert len(mail_server.to(pair[0].email)) == 1


@pytest.mark.parametrize(
    "address",
    [
        "a@example.com\r\nBcc: victim@example.com",
        "a@example.com\nSubject: Prize",
        "a@example.com, victim@example.com",
        "a@example.com>\r\nRCPT TO:<victim@example.com",
        "Bo <a@example.com>",
        "nobody",
        "a..b@example.com",
        ".a@example.com",
        "a@example.com.",
        "@",
        "a@",
    ],
)
@pytest.mark.usefixtures("client")
async def test_an_address_that_is_more_or_less_than_one_is_written_into_no_header(
    auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer, address: str
) -> None:
    patient, doctor = auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    auth.users[patient.id] = msgspec.structs.replace(patient, email=address)
    await streams.tell(appointment(patient, doctor))
    failed = await email_becomes(store, patient, status="FAILED", reason="malformed_address", attempts=1)
    assert "@" not in failed["error"]
    await email_becomes(store, doctor, status="SENT")
    assert [message["To"] for message in mail_server.seen] == [doctor.email]


@pytest.mark.parametrize(
    ("address", "sent_to"),
    [
        ("t@münchen.example", "t@xn--mnchen-3ya.example"),
        ("t@xn--mnchen-3ya.example", "t@xn--mnchen-3ya.example"),
        ("jörg@example.com", "jörg@example.com"),
        ("δοκιμή@παράδειγμα.example", "δοκιμή@xn--hxajbheg2az3al.example"),
    ],
)
@pytest.mark.usefixtures("client")
async def test_an_internationalised_address_gets_its_mail(
    auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer, address: str, sent_to: str
) -> None:
    mail_server.smtputf8 = True
    patient, doctor = auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    auth.users[patient.id] = msgspec.structs.replace(patient, email=address)
    await streams.tell(appointment(patient, doctor))
    await email_becomes(store, patient, status="SENT")
    assert len(mail_server.to(sent_to)) == 1


@pytest.mark.usefixtures("client")
async def test_a_server_without_smtputf8_gets_only_domains_that_are_no_ascii(
    auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer
) -> None:
    patient, doctor = auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    auth.users[patient.id] = msgspec.structs.replace(patient, email="jörg@example.com")
    auth.users[doctor.id] = msgspec.structs.replace(doctor, email="t@münchen.example")
    await streams.tell(appointment(patient, doctor))
    failed = await email_becomes(store, patient, status="FAILED", reason="recipient_refused", attempts=1)
    assert "SMTPUTF8" in failed["error"]
    await email_becomes(store, doctor, status="SENT")


@pytest.mark.parametrize(
    ("sender", "header"),
    [
        ("Dr. Müller, Praxis <praxis@example.com>", ("Dr. Müller, Praxis", "praxis@example.com")),
        ("Clinic: North <no-reply@münchen.example>", ("Clinic: North", "no-reply@xn--mnchen-3ya.example")),
        ("no-reply@example.com", ("", "no-reply@example.com")),
    ],
)
async def test_the_sender_may_have_any_name_and_an_internationalised_domain(
    emailing: Callable[..., Service],
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    pair: tuple[UserState, UserState],
    sender: str,
    header: tuple[str, str],
) -> None:
    async with client_of(emailing(MAIL_FROM=sender)):
        await streams.tell(appointment(*pair))
        await email_becomes(store, pair[0], status="SENT")
    (mail,) = mail_server.to(pair[0].email)
    (address,) = mail["From"].addresses
    assert (address.display_name, address.addr_spec) == header


async def test_replicas_send_each_email_once_over_few_connections(
    auth: AuthStub,
    emailing: Callable[..., Service],
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    pair: tuple[UserState, UserState],
) -> None:
    first, second = emailing(), emailing()
    # Eight at once: one alone takes 1.5 s for them, and the other looks every second.
    mail_server.seconds = 0.1
    async with client_of(first), client_of(second):
        await asyncio.gather(*(streams.tell(appointment(*pair)) for _ in range(60)))

        theirs = {"recipientId": {"$in": [user.id for user in pair]}, "channel": "EMAIL"}

        async def all_sent() -> bool:
            return await store["notifications"].count_documents({**theirs, "status": "SENT"}) == 120

        await eventually(all_sent)
        assert await store["notifications"].count_documents({**theirs, "nextAttemptAt": {"$exists": True}}) == 0
        metrics = [await metrics_of(service) for service in (first, second)]
    ids = Counter(message["Message-ID"] for message in mail_server.taken)
    assert (len(ids), set(ids.values())) == (120, {1})
    sent = 'notification_deliveries_total{channel="EMAIL",outcome="sent"}'
    assert all(found.get(sent, 0) > 0 for found in metrics)
    assert mail_server.connections < 60


@pytest.mark.usefixtures("client")
async def test_a_server_that_limits_messages_per_connection_gets_new_connections(
    store: Store, streams: Streams, mail_server: MailServer, pair: tuple[UserState, UserState]
) -> None:
    mail_server.per_connection = 2
    await asyncio.gather(*(streams.tell(appointment(*pair)) for _ in range(20)))

    async def all_sent() -> bool:
        sent = {"recipientId": {"$in": [user.id for user in pair]}, "channel": "EMAIL", "status": "SENT"}
        return await store["notifications"].count_documents({**sent, "attempts": 1}) == 40

    await eventually(all_sent)


class SlowComposer(EmailComposer):
    async def compose(self, claim: Claim) -> Email:
        await asyncio.sleep(1.5)
        return await super().compose(claim)


async def test_a_send_that_the_lease_may_not_outlast_is_not_begun(
    emailing: Callable[..., Service],
    auth: AuthStub,
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    pair: tuple[UserState, UserState],
) -> None:
    await mail_server.stop()
    async with client_of(emailing()):
        await streams.tell(appointment(*pair))
        for user in pair:
            await email_becomes(store, user, attempts=1, reason="server_unreachable")
    await mail_server.start()
    neighbour = InternalClient(auth.url, INTERNAL_TOKEN)
    allowances = MailAllowances(store, per_recipient=0, per_pair=0)
    composer = SlowComposer(Directory(UserRepository(store), neighbour), allowances)
    sender = EmailSender(composer, SmtpConnections.of(mail_server.url, 0.5), FROM, 0.5)
    worker = DeliveryWorker(DeliveryRepository(store), sender, DeliveryMetrics(CollectorRegistry()), send_seconds=0.5)
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    await time_passes(store, *pair)
    await asyncio.sleep(4)
    stop.set()
    await running
    await neighbour.close()
    assert mail_server.seen == []
    for user in pair:
        await email_becomes(store, user, status="PENDING", attempts=1)


async def test_stopping_finishes_what_is_being_sent_and_takes_nothing_else(
    emailing: Callable[..., Service], auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer
) -> None:
    people = [auth.register(Role.PATIENT) for _ in range(12)]
    doctor = auth.register(Role.DOCTOR)
    mail_server.seconds = 1.5
    async with client_of(emailing()):
        for patient in people:
            await streams.tell(appointment(patient, doctor))
        await streams.settled()

        async def sending() -> bool:
            return len(mail_server.seen) == 8

        await eventually(sending)
    ids = [doctor.id, *(patient.id for patient in people)]
    found = await store["notifications"].find({"recipientId": {"$in": ids}, "channel": "EMAIL"}).to_list(None)
    assert len(found) == 24
    by_state = Counter((one["status"], one["attempts"]) for one in found)
    assert by_state[("SENT", 1)] == len(mail_server.taken) == len(mail_server.seen) >= 8
    assert by_state[("PENDING", 0)] == 24 - by_state[("SENT", 1)] > 0


async def test_stopping_gives_back_what_was_claimed_and_not_sent(
    emailing: Callable[..., Service], auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer
) -> None:
    patient, doctor = auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    await mail_server.stop()
    async with client_of(emailing()):
        await streams.tell(appointment(patient, doctor))
        await email_becomes(store, patient, reason="server_unreachable")
        await mail_server.start()
        await store["users"].delete_many({"_id": {"$in": [patient.id, doctor.id]}})
        auth.seconds = 0.8
        await time_passes(store, patient)
        await email_becomes(store, patient, attempts=2)
    auth.seconds = 0.0
    document = await email_becomes(store, patient, attempts=1, status="PENDING")
    assert document["nextAttemptAt"] <= datetime.now(UTC) + timedelta(seconds=1)
    assert mail_server.seen == []


async def test_a_message_whose_sender_died_before_the_mark_repeats_once_with_the_same_id_and_no_log_names_anybody(
    auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer, mongodb_url: str, redis_url: str
) -> None:
    patient, doctor = auth.register(Role.PATIENT, "Canary Patient"), auth.register(Role.DOCTOR, "Canary Doctor")
    mail_server.refused[doctor.email] = f"450 4.2.1 <{doctor.email}> Canary Doctor is busy"
    environment = {
        **environment_of(auth, mongodb_url, redis_url),
        "SMTP_URL": mail_server.url,
        "MAIL_FROM": FROM,
        "SMTP_TIMEOUT_SECONDS": "1",
    }
    await streams.tell(appointment(patient, doctor))
    async with launched("notification", {**environment, "FAILPOINTS": "accepted=1"}) as dying:
        assert await asyncio.to_thread(dying.wait, 30) == -signal.SIGKILL, dying.output
        logs = dying.output
    assert len(mail_server.to(patient.email)) == 1
    claimed = await email_to(store, patient)
    assert (claimed["status"], claimed["attempts"]) == ("PENDING", 1)
    async with launched("notification", environment) as living:
        await email_becomes(store, patient, status="SENT", attempts=2)
        await asyncio.sleep(5)  # longer than a lease
        assert await asyncio.to_thread(living.stop) == 0, living.output
        logs += living.output
    first, again = mail_server.to(patient.email)
    assert first["Message-ID"] == again["Message-ID"] == f"<{claimed['_id']}@clinic.example.com>"
    assert first["Date"] == again["Date"]
    assert "delivery put off" in logs
    assert "Canary" not in logs
    assert patient.email not in logs
    assert doctor.email not in logs
    assert "Traceback" not in logs


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that may be frozen and killed."""
    with Servers(tmp_path_factory.mktemp("servers"), durable=False, postgres=False) as servers:
        yield servers


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
async def test_what_has_left_when_mongodb_goes_is_marked_before_another_replica_repeats_it(
    own: Servers, auth: AuthStub, mail_server: MailServer, pair: tuple[UserState, UserState], number: signal.Signals
) -> None:
    settings = {"SMTP_URL": mail_server.url, "MAIL_FROM": FROM, "SMTP_TIMEOUT_SECONDS": "2"}
    replicas = [service_of(auth, own.mongodb_url, own.redis_url, **settings) for _ in range(2)]
    store = store_of(own.mongodb_url)

    def goes() -> None:
        mail_server.accepting = lambda: None
        os.kill(own.pids["mongodb"], number)

    mail_server.accepting = goes
    async with Streams.of(own.redis_url, auth.issuer) as streams, client_of(replicas[0]), client_of(replicas[1]):
        await streams.tell(appointment(*pair))

        async def taken() -> bool:
            return bool(mail_server.taken)

        try:
            await eventually(taken)
            await asyncio.sleep(10)  # longer than a lease
        finally:
            if number == signal.SIGSTOP:
                os.kill(own.pids["mongodb"], signal.SIGCONT)
            else:
                await asyncio.to_thread(own.start)
        for user in pair:
            await email_becomes(store, user, status="SENT")
        await asyncio.sleep(5)
    store.close()
    assert [len(mail_server.to(user.email)) for user in pair] == [1, 1]


async def test_it_signs_in_over_starttls_where_that_is_offered_and_trusts_no_unknown_certificate(
    emailing: Callable[..., Service],
    auth: AuthStub,
    store: Store,
    streams: Streams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, trusted = server_certificate(tmp_path)
    server = MailServer(context, (b"mailer@example.com", b"p:ss/word@1"))
    await server.start()
    url = server.url.replace("127.0.0.1", "mailer%40example.com:p%3Ass%2Fword%401@localhost")
    patient, doctor = auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    try:
        async with client_of(emailing(SMTP_URL=url)):
            await streams.tell(appointment(patient, doctor))
            await email_becomes(store, patient, attempts=1, reason="server_unreachable")
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        async with client_of(emailing(SMTP_URL=url.replace("p%3A", "wrong"))):
            await time_passes(store, patient)
            await email_becomes(store, patient, attempts=2, reason="sender_refused")
        async with client_of(emailing(SMTP_URL=url)):
            await time_passes(store, patient, doctor)
            await email_becomes(store, patient, status="SENT", attempts=3)
            await email_becomes(store, doctor, status="SENT")
        assert server.encrypted == [True, True]
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("peer", "encrypted", "confidential"),
    [("127.0.0.1", False, True), ("::1", False, True), ("192.0.2.1", False, False), ("192.0.2.1", True, True)],
)
def test_a_password_crosses_a_network_encrypted_or_not_at_all(peer: str, encrypted: bool, confidential: bool) -> None:
    connection = {"peername": (peer, 587), "ssl_object": object() if encrypted else None}
    client: Any = SimpleNamespace(get_transport_info=connection.get)
    assert is_confidential(client) is confidential


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"SMTP_URL": "smtp://localhost"}, "MAIL_FROM is missing"),
        ({"SMTP_URL": "http://localhost"}, "SMTP_URL is malformed: expected a URL such as smtp://"),
        ({"SMTP_URL": "smtp://localhost:99999", "MAIL_FROM": FROM}, "SMTP_URL is malformed"),
        ({"SMTP_URL": "smtp://user@localhost", "MAIL_FROM": FROM}, "SMTP_URL is malformed"),
        ({"SMTP_URL": "smtp://localhost", "MAIL_FROM": "a@example.com\nBcc: b@example.com"}, "MAIL_FROM is malformed"),
        ({"SMTP_URL": "smtp://localhost", "MAIL_FROM": "a@example.com, b@example.com"}, "MAIL_FROM is malformed"),
        ({"SMTP_URL": "smtp://localhost", "MAIL_FROM": "Clinic"}, "MAIL_FROM is malformed"),
        ({"SMTP_URL": "smtp://localhost", "MAIL_FROM": "a..b@example.com"}, "MAIL_FROM is malformed"),
        ({"SMTP_URL": "smtp://localhost", "MAIL_FROM": "Clinic <a@example.com.>"}, "MAIL_FROM is malformed"),
        ({"SMTP_TIMEOUT_SECONDS": "0"}, "SMTP_TIMEOUT_SECONDS is malformed"),
    ],
)
def test_a_setting_that_makes_no_sense_stops_the_start_by_name(
    auth: AuthStub, mongodb_url: str, redis_url: str, more: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        service_of(auth, mongodb_url, redis_url, **more)
