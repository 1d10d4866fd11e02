"""What a mail with a secret says, and where its link leads."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import MailKind, Role
from services.contracts.events import UserState
from services.kit.http.service import Service
from services.kit.settings import SettingsError, load
from services.notification.delivery.schemas import Delivery
from services.notification.inbox.schemas import Notification
from services.notification.notifying.schemas import NotificationType
from services.notification.repository import Store
from services.notification.settings import Settings
from tests.notification.delivery.email.account_mails.mails import (
    NOON,
    RESET,
    VERIFY,
    assert_silent,
    becomes,
    requested,
)
from tests.notification.delivery.email.emails import FROM
from tests.notification.services import environment_of
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer, part
from tests.support.running import client_of
from tests.support.streams import Streams


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
