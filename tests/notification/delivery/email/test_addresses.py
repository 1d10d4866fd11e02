"""Addresses and senders that a mail has to be written with, and those that it must not."""

from collections.abc import Callable

import msgspec
import pytest

from services.contracts.enums import Role
from services.contracts.events import UserState
from services.kit.http.service import Service
from services.kit.settings import SettingsError
from services.notification.repository import Store
from tests.notification.delivery.email.emails import FROM, email_becomes
from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer
from tests.support.running import client_of
from tests.support.streams import Streams, appointment


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
        ('"Dr. Müller, Praxis" <praxis@example.com>', ("Dr. Müller, Praxis", "praxis@example.com")),
        (r'"The \"Clinic\" \\ North" <praxis@example.com>', (r'The "Clinic" \ North', "praxis@example.com")),
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
