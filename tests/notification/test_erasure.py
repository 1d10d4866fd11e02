"""What people were told about somebody who was erased, and what that person was told."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from uuid_utils.compat import uuid7

from services.contracts import streams as contracts
from services.contracts.enums import AppointmentStatus, Role, UserStatus
from services.contracts.events import (
    AppointmentCancelled,
    AppointmentUpdated,
    UserErased,
    UserRegistered,
    UserState,
    UserUpdated,
)
from services.notification.directory.repository import UserRepository
from services.notification.directory.service import Directory
from services.notification.repository import Store
from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.canary import called
from tests.support.mail_server import MailServer
from tests.support.running import client_of
from tests.support.streams import Streams, appointment, entry
from tests.support.waiting import eventually

AWKWARD = "Bo on Tuesday, with {start} (.+) Brandt"


@pytest.fixture
async def client(
    auth: AuthStub, streams: Streams, mongodb_url: str, redis_url: str, mail_server: MailServer
) -> AsyncIterator[httpx.AsyncClient]:
    service = service_of(auth, mongodb_url, redis_url, SMTP_URL=mail_server.url, MAIL_FROM="a@example.com")
    async with client_of(service) as client:
        yield client


def erased(user: UserState, version: int = 9) -> UserErased:
    return UserErased(
        user=replace(
            user,
            full_name="Erased user",
            status=UserStatus.SUSPENDED,
            email=f"{user.id}@erased.invalid",
            version=version,
            erased=True,
        )
    )


async def documents(store: Store, *people: UserState) -> list[dict[str, Any]]:
    return await store["notifications"].find({"recipientId": {"$in": [one.id for one in people]}}).to_list(None)


async def shown(
    client: httpx.AsyncClient, auth: AuthStub, user: UserState, channel: str = "IN_APP"
) -> list[dict[str, Any]]:
    path = f"/api/notifications/{user.id}?channel={channel}"
    items: list[dict[str, Any]] = (await client.get(path, headers=auth.bearer(user))).json()["items"]
    return items


async def mails_sent(store: Store, *people: UserState) -> None:
    async def holds() -> bool:
        found = [one for one in await documents(store, *people) if one["channel"] == "EMAIL"]
        return bool(found) and all(one["status"] == "SENT" for one in found)

    await eventually(holds)


async def traces(store: Store, *names: str) -> list[str]:
    found = []
    for collection in ("notifications", "users", "dead_letters", "appointments"):
        for document in await store[collection].find({}).to_list(None):
            found += [f"{collection}: {name}" for name in names if name in str(document)]
    return found


async def test_a_mail_that_is_leaving_brings_no_name_back(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer
) -> None:
    name = f"{called('Bo')} {uuid7()}"
    patient, doctor = auth.register(Role.PATIENT, name), auth.register(Role.DOCTOR, "Ada Doctor")
    mail_server.seconds = 1.5
    await streams.tell(UserRegistered(user=patient), UserRegistered(user=doctor), appointment(patient, doctor))

    async def is_sent() -> bool:
        return len(mail_server.seen) == 2

    await eventually(is_sent)  # and not answered yet
    await streams.tell(erased(patient))
    await streams.settled()
    await mails_sent(store, patient, doctor)
    assert await traces(store, name, patient.email) == []


async def test_an_erased_person_is_named_nowhere_whatever_they_were_called(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, streams: Streams
) -> None:
    names = f"{AWKWARD} {uuid7()}", f"Bo Newname {uuid7()}"
    patient = auth.register(Role.PATIENT, names[0])
    doctor = auth.register(Role.DOCTOR, "Ada Doctor", time_zone="Europe/Berlin", locale="de")
    booked = appointment(patient, doctor)
    confirmed = appointment(
        patient,
        doctor,
        AppointmentUpdated,
        appointment_id=booked.appointment_id,
        version=2,
        status=AppointmentStatus.CONFIRMED,
    )
    await streams.tell(UserRegistered(user=patient), UserRegistered(user=doctor))
    await streams.settled()
    await streams.tell(booked)
    await streams.settled()
    await streams.tell(UserUpdated(user=replace(patient, full_name=names[1], version=2)))
    await streams.settled()
    await streams.tell(confirmed)
    await streams.settled()
    await mails_sent(store, patient, doctor)
    assert await traces(store, *names) == [f"users: {names[1]}"]
    poison = entry(UserUpdated(user=patient))
    await streams.put(contracts.USERS, {**poison, "payload": poison["payload"].replace("UserUpdated", "FromThe")})
    for _ in range(2):
        await streams.tell(erased(patient), UserUpdated(user=replace(patient, version=4)))
        await streams.settled()
    assert await traces(store, *names, patient.email) == []
    told = {channel: (await shown(client, auth, doctor, channel))[0]["message"] for channel in ("IN_APP", "EMAIL")}
    moment = "Dienstag, 1. Dezember 2026, 10:30 Uhr (Europe/Berlin, UTC+01:00)"
    sentence = f"Der Termin mit Erased user am {moment} ist bestätigt."
    assert told == {"IN_APP": sentence, "EMAIL": sentence}
    assert {one["message"] for one in await shown(client, auth, patient)} == {""}


async def test_an_erasure_that_auth_did_not_sign_erases_nobody(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, streams: Streams
) -> None:
    patient = auth.register(Role.PATIENT, called("Bo"))
    await streams.tell(UserRegistered(user=patient))
    forged = entry(erased(patient))
    await streams.redis.xadd(contracts.USERS.name, forged)  # type: ignore[arg-type]
    await streams.settled()
    assert await UserRepository(store).find([patient.id]) == {patient.id: patient}
    (letter,) = await store["dead_letters"].find({"fields.id": forged["id"]}).to_list(None)
    assert letter["reason"] == "forged"
    answer = await client.post(
        f"/api/notifications/dead-letters/{letter['_id']}/replay", headers=auth.bearer(auth.register(Role.ADMIN))
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "replay_failed")
    assert await UserRepository(store).find([patient.id]) == {patient.id: patient}


async def test_what_has_not_left_yet_does_not_leave(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, streams: Streams, mail_server: MailServer
) -> None:
    patient, doctor = auth.register(Role.PATIENT, f"{called('Bo')} {uuid7()}"), auth.register(Role.DOCTOR, "Ada Doctor")
    mail_server.refused[patient.email] = "451 try again later"
    await streams.tell(appointment(patient, doctor))
    await streams.settled()
    await mails_sent(store, doctor)
    await streams.tell(erased(patient))
    await streams.settled()
    (mail,) = [one for one in await documents(store, patient) if one["channel"] == "EMAIL"]
    assert (mail["status"], mail["reason"]) == ("SKIPPED", "erased")
    assert not {"nextAttemptAt", "error", "token"} & mail.keys()


async def test_an_erased_person_is_told_nothing_more_and_the_other_without_a_name(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, streams: Streams
) -> None:
    patient, doctor = auth.register(Role.PATIENT, f"{called('Bo')} {uuid7()}"), auth.register(Role.DOCTOR, "Ada Doctor")
    await streams.tell(erased(patient))
    await streams.settled()
    await streams.tell(appointment(patient, doctor, AppointmentCancelled, status=AppointmentStatus.CANCELLED))
    await streams.settled()
    assert await documents(store, patient) == []
    assert ["with Erased user on" in one["message"] for one in await shown(client, auth, doctor)] == [True]
    assert len(await documents(store, doctor)) == 2


async def test_who_is_erased_while_somebody_is_told_of_them_is_not_named(
    client: httpx.AsyncClient,
    auth: AuthStub,
    store: Store,
    streams: Streams,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The erasure falls between reading the names and storing the texts, where its own look finds nothing yet."""
    patient, doctor = auth.register(Role.PATIENT, f"{called('Bo')} {uuid7()}"), auth.register(Role.DOCTOR, "Ada Doctor")
    read = Directory.get
    read_once = asyncio.Event()

    async def slow(self: Directory, *ids: Any) -> list[UserState]:
        found = await read(self, *ids)
        if not read_once.is_set():
            read_once.set()
            users = UserRepository(store)

            async def is_erased() -> bool:
                return (await users.find([patient.id]))[patient.id].erased

            await eventually(is_erased)
        return found

    monkeypatch.setattr(Directory, "get", slow)
    await streams.tell(appointment(patient, doctor))
    await read_once.wait()
    await streams.tell(erased(patient))
    await streams.settled()
    assert await traces(store, patient.full_name) == []
    assert len(await documents(store, doctor)) == 2
