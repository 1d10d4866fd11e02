"""Who gets an e-mail, at which address and in which words."""

import httpx
import msgspec
import pytest

from services.contracts.enums import Role, UserStatus
from services.contracts.events import UserState, UserUpdated
from services.notification.repository import Store
from tests.notification.delivery.email.emails import FROM, email_becomes, time_passes
from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer, part
from tests.support.running import client_of
from tests.support.streams import Streams, appointment


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
