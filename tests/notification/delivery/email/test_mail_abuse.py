"""Mails are no weapon: they go to verified addresses, carry nobody's links, are few, and never leave unencrypted."""

from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

from services.contracts.enums import MailKind, Role
from services.contracts.events import AppointmentUpdated, MailRequested, UserRegistered, UserState, UserUpdated
from services.kit.http.service import Service
from services.notification.delivery.email import repository
from services.notification.delivery.email import smtp as module
from services.notification.delivery.email.repository import MailAllowances
from services.notification.notifying.wording import without_links
from services.notification.repository import Store
from tests.notification.delivery.email.emails import email_becomes
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer, part
from tests.support.running import client_of
from tests.support.streams import Streams, appointment
from tests.support.waiting import eventually


def unverified(auth: AuthStub) -> UserState:
    user = replace(auth.user(Role.PATIENT), email_verified=False)
    auth.users[user.id] = user
    return user


@pytest.mark.usefixtures("client")
async def test_nothing_is_mailed_to_an_address_that_is_not_verified_but_what_verifies_it(
    auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer
) -> None:
    patient, doctor = unverified(auth), auth.register(Role.DOCTOR)
    await streams.tell(UserRegistered(user=patient), appointment(patient, doctor))
    await email_becomes(store, doctor, status="SENT")
    await email_becomes(store, patient, status="SKIPPED", reason="address_unverified")
    wanted = auth.mail(patient, MailKind.VERIFY_EMAIL)
    await streams.tell(MailRequested(mail_id=wanted.id, kind=wanted.kind))
    await streams.settled()

    async def arrived() -> bool:
        return bool(mail_server.to(patient.email))

    await eventually(arrived)
    assert len(mail_server.to(patient.email)) == 1


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("heard", ["by its event", "by asking auth"])
async def test_once_it_is_verified_appointments_are_mailed(
    auth: AuthStub, store: Store, streams: Streams, heard: str
) -> None:
    patient, doctor = unverified(auth), auth.register(Role.DOCTOR)
    await streams.tell(UserRegistered(user=patient))
    await streams.settled()
    verified = auth.users[patient.id] = replace(patient, email_verified=True, version=2)
    if heard == "by its event":
        await streams.tell(UserUpdated(user=verified))
        await streams.settled()
    await streams.tell(appointment(patient, doctor))
    await email_becomes(store, patient, status="SENT")


@pytest.mark.usefixtures("client")
async def test_a_name_becomes_no_link_in_a_mail(
    auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer
) -> None:
    patient = auth.register(Role.PATIENT, "https://evil.example/win www.evil.example a@evil.example")
    doctor = auth.register(Role.DOCTOR)
    await streams.tell(appointment(patient, doctor))
    await email_becomes(store, doctor, status="SENT")
    (message,) = mail_server.to(doctor.email)
    for kind in ("plain", "html"):
        text = part(message, kind)
        assert "win" in text
        for link in ("://", "evil.example", "www.", "a@evil"):
            assert link not in text.replace("www. ", "")


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Dr. Ada Brandt", "Dr. Ada Brandt"),
        ("J.R. O'Neill-García", "J. R. O'Neill-García"),
        ("evil.example", "evil. example"),
        ("http://evil．example", "http: / / evil． example"),
        ("a@b.example", "a@ b. example"),
        ("李小龍。", "李小龍。"),
    ],
)
def test_only_what_a_mail_program_makes_a_link_of_is_taken_apart(name: str, plain: str) -> None:
    assert without_links(name) == plain


async def has_outcomes(store: Store, recipient: UserState, *, sent: int, put_off: int) -> None:
    """Wait for them: an attempt that an overloaded machine fails is repeated."""
    expected = {"SENT": sent, "too_many_mails": put_off}

    async def holds() -> bool:
        query = {"recipientId": recipient.id, "channel": "EMAIL"}
        found = await store["notifications"].find(query).to_list(None)
        return Counter("SENT" if one["status"] == "SENT" else one.get("reason") for one in found) == expected

    await eventually(holds)


@pytest.fixture
def one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no window end while a test runs."""
    monkeypatch.setattr(repository, "_WINDOW_SECONDS", 100 * 365 * 24 * 3600)


@pytest.mark.usefixtures("one_window")
async def test_mails_to_one_person_about_another_are_few_in_an_hour(
    emailing: Callable[..., Service], auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer
) -> None:
    attacker, patient, doctor = auth.register(Role.PATIENT), auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    async with client_of(emailing(MAILS_PER_PAIR_AND_HOUR="2")), client_of(emailing(MAILS_PER_PAIR_AND_HOUR="2")):
        booked = appointment(attacker, doctor)
        for version in range(1, 21):
            change: Any = {"appointment_id": booked.appointment_id, "version": version}
            await streams.tell(appointment(attacker, doctor, AppointmentUpdated, **change))
        await has_outcomes(store, doctor, sent=2, put_off=18)
        await streams.tell(appointment(patient, doctor))
        await email_becomes(store, patient, status="SENT")
        await has_outcomes(store, doctor, sent=3, put_off=18)
    assert len(mail_server.to(doctor.email)) == 3


@pytest.mark.usefixtures("one_window")
async def test_mails_to_one_person_are_few_in_an_hour_whoever_causes_them(
    emailing: Callable[..., Service], auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer
) -> None:
    doctor = auth.register(Role.DOCTOR)
    limit = {"MAILS_PER_RECIPIENT_AND_HOUR": "3"}
    async with client_of(emailing(**limit)), client_of(emailing(**limit)):
        for _ in range(20):
            await streams.tell(appointment(auth.register(Role.PATIENT), doctor))
        await has_outcomes(store, doctor, sent=3, put_off=17)
        wanted = auth.mail(doctor, MailKind.PASSWORD_RESET)
        await streams.tell(MailRequested(mail_id=wanted.id, kind=wanted.kind))
        await eventually(lambda: len(mail_server.to(doctor.email)) == 4)


@pytest.mark.usefixtures("one_window")
async def test_a_mail_that_is_attempted_again_takes_one_allowance(store: Store) -> None:
    allowances = MailAllowances(store, per_recipient=2, per_pair=1)
    recipient, first, second, third = uuid4(), uuid4(), uuid4(), uuid4()
    other = uuid4()
    for _ in range(3):
        assert await allowances.take(first, recipient, other)
    assert not await allowances.take(second, recipient, other)
    assert await allowances.take(second, recipient, uuid4())
    assert not await allowances.take(third, recipient, uuid4())


@pytest.mark.parametrize(("tls", "leaves"), [("required", False), ("opportunistic", True)])
async def test_no_mail_leaves_without_tls_unless_the_operator_wants_it(
    emailing: Callable[..., Service],
    auth: AuthStub,
    store: Store,
    streams: Streams,
    monkeypatch: pytest.MonkeyPatch,
    tls: str,
    leaves: bool,
) -> None:
    monkeypatch.setattr(module, "is_confidential", lambda _: False)  # as if the server were not on this machine
    patient, doctor = auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    async with client_of(emailing(SMTP_TLS=tls)):
        await streams.tell(appointment(patient, doctor))
        expected = {"status": "SENT"} if leaves else {"status": "PENDING", "reason": "sender_refused"}
        await email_becomes(store, patient, **expected)
