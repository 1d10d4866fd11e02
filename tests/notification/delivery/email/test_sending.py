"""Each e-mail leaves once, with several replicas, and when one of them stops or dies."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from services.contracts.enums import Role
from services.contracts.events import UserState
from services.kit import internal
from services.kit.http.service import Service
from services.kit.internal import InternalClient
from services.notification.delivery.email.composer import Email, EmailComposer
from services.notification.delivery.email.repository import MailAllowances
from services.notification.delivery.email.sender import EmailSender
from services.notification.delivery.email.smtp import SmtpConnections
from services.notification.delivery.repository import DeliveryRepository
from services.notification.delivery.schemas import Claim
from services.notification.delivery.worker import DeliveryMetrics, DeliveryWorker
from services.notification.directory.repository import UserRepository
from services.notification.directory.service import Directory
from services.notification.indexes import migrate
from services.notification.repository import Store
from services.standalone.servers import Servers
from tests.notification.delivery.email.emails import FROM, email_becomes, email_to, time_passes
from tests.notification.services import environment_of, service_of, store_of
from tests.support.auth_stub import INTERNAL_TOKEN, AuthStub
from tests.support.mail_server import MailServer
from tests.support.process import launched
from tests.support.running import client_of, metrics_of
from tests.support.streams import Streams, appointment
from tests.support.waiting import eventually


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
    emailing: Callable[..., Service],
    auth: AuthStub,
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(internal, "_ANSWER_SECONDS", 30.0)
    patient, doctor = auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    await mail_server.stop()
    async with client_of(emailing()):
        await streams.tell(appointment(patient, doctor))
        await email_becomes(store, patient, reason="server_unreachable")
        await mail_server.start()
        await store["users"].delete_many({"_id": {"$in": [patient.id, doctor.id]}})
        auth.seconds = 4.0
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
        migrate(servers.mongodb_url)
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
