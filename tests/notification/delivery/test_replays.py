"""What a replay makes of dead letters of both kinds."""

import asyncio
from datetime import UTC, datetime

import httpx
import msgspec
from uuid_utils.compat import uuid7

from services.contracts import streams as contracts
from services.contracts.enums import Role, UserStatus
from services.contracts.events import UserRegistered, UserState
from services.notification.directory.repository import UserRepository
from services.notification.repository import Store
from tests.notification.delivery.listing import DEAD_LETTERS, DELIVERIES, items, replay, undelivered
from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer
from tests.support.running import client_of
from tests.support.streams import Streams, appointment, entry, signed
from tests.support.waiting import eventually


async def test_a_failed_delivery_is_a_dead_letter_that_leaves_once_when_several_replay_it(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    pair: tuple[UserState, UserState],
) -> None:
    patient, doctor = pair
    mail_server.refused[patient.email] = "550 5.1.1 no such user"
    booked = appointment(patient, doctor)
    await streams.tell(booked)
    failed = await undelivered(client, admin, booked)
    letter = (await items(client, DEAD_LETTERS, admin))[0]
    assert letter == {
        "id": failed["id"],
        "kind": "DELIVERY",
        "reason": "recipient_refused",
        "error": "550 5.1.1 no such user",
        "diedAt": failed["failedAt"],
        "eventId": failed["eventId"],
        "stream": None,
        "entryId": None,
        "eventType": None,
        "appointmentId": str(booked.appointment_id),
        "recipientId": str(patient.id),
        "channel": "EMAIL",
        "notificationType": "APPOINTMENT_CREATED",
        "attempts": 1,
    }
    mail_server.refused.clear()
    answers = await asyncio.gather(*(replay(client, failed["id"], admin) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert answers[0].json() == {"id": failed["id"], "kind": "DELIVERY", "outcome": "PENDING"}

    async def sent() -> bool:
        found = await items(client, DELIVERIES, admin, appointmentId=str(booked.appointment_id))
        return all(one["status"] == "SENT" and one["attempts"] == 1 for one in found)

    await eventually(sent)
    await asyncio.sleep(1.5)
    (message,) = mail_server.to(patient.email)
    assert message["Message-ID"] == f"<{failed['id']}@example.com>"
    assert failed["id"] not in [one["id"] for one in await items(client, DEAD_LETTERS, admin)]
    assert (await replay(client, failed["id"], admin)).json()["outcome"] == "PENDING"
    assert (await replay(client, uuid7(), admin)).status_code == 404


async def test_a_delivery_may_fail_again_after_its_replay(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    store: Store,
    streams: Streams,
    mail_server: MailServer,
    pair: tuple[UserState, UserState],
) -> None:
    mail_server.refused[pair[0].email] = "550 5.1.1 no such user"
    booked = appointment(*pair)
    await streams.tell(booked)
    failed = await undelivered(client, admin, booked)
    assert (await replay(client, failed["id"], admin)).status_code == 200

    async def failed_again() -> bool:
        (again,) = [
            one
            for one in await items(client, DELIVERIES, admin, appointmentId=str(booked.appointment_id))
            if one["id"] == failed["id"]
        ]
        return bool(again["failedAt"] and again["failedAt"] > failed["failedAt"])

    await eventually(failed_again)
    assert failed["id"] == (await items(client, DEAD_LETTERS, admin))[0]["id"]


async def test_a_delivery_whose_channel_is_not_set_up_is_not_replayed_into_nothing(
    auth: AuthStub,
    client: httpx.AsyncClient,
    admin: dict[str, str],
    streams: Streams,
    mail_server: MailServer,
    pair: tuple[UserState, UserState],
    mongodb_url: str,
    redis_url: str,
) -> None:
    mail_server.refused[pair[0].email] = "550 5.1.1 no such user"
    booked = appointment(*pair)
    await streams.tell(booked)
    failed = await undelivered(client, admin, booked)
    async with client_of(service_of(auth, mongodb_url, redis_url)) as without:
        answer = await replay(without, failed["id"], admin)
    assert (answer.status_code, answer.json()["code"]) == (409, "channel_not_configured")
    assert (await undelivered(client, admin, booked))["failedAt"] == failed["failedAt"]


async def test_a_poison_event_says_why_until_a_replay_handles_it(
    client: httpx.AsyncClient, auth: AuthStub, admin: dict[str, str], store: Store, streams: Streams
) -> None:
    patient, doctor = auth.register(Role.PATIENT, "Bo Patient"), auth.user(Role.DOCTOR, "Ada Doctor")
    event_id = uuid7()
    await streams.tell(appointment(patient, doctor), event_id=event_id)
    await streams.settled()
    (letter,) = [one for one in await items(client, DEAD_LETTERS, admin) if one["eventId"] == str(event_id)]
    assert (letter["kind"], letter["stream"], letter["eventType"]) == (
        "EVENT",
        "booking.appointments",
        "AppointmentCreated",
    )
    assert (letter["reason"], letter["error"]) == ("failing", f"UnknownUser: auth knows no user {doctor.id}")
    assert "Bo Patient" not in str(letter)
    refused = await replay(client, letter["id"], admin)
    assert (refused.status_code, refused.json()["code"]) == (409, "replay_failed")
    assert refused.json()["detail"].startswith(f"{letter['error']}. ")
    assert letter in await items(client, DEAD_LETTERS, admin)
    auth.up = False
    try:
        assert (await replay(client, letter["id"], admin)).status_code == 503
    finally:
        auth.up = True
    auth.users[doctor.id] = doctor

    async def handled() -> bool:
        # The breaker of the client to auth may be open.
        return (await replay(client, letter["id"], admin)).status_code == 200

    await eventually(handled)
    answers = await asyncio.gather(*(replay(client, letter["id"], admin) for _ in range(8)))
    assert [answer.json() for answer in answers] == [{"id": letter["id"], "kind": "EVENT", "outcome": "HANDLED"}] * 8
    told = await store["notifications"].find({"eventId": event_id}).to_list(None)
    assert sorted((one["recipientId"], one["channel"]) for one in told) == sorted(
        (user.id, channel) for user in (patient, doctor) for channel in ("IN_APP", "EMAIL")
    )
    assert letter["id"] not in [one["id"] for one in await items(client, DEAD_LETTERS, admin)]
    stored = await store["dead_letters"].find_one({"fields.id": str(event_id)})
    assert stored is not None
    assert "payload" not in stored["fields"]


async def test_concurrent_replays_of_a_poison_event_tell_each_once(
    client: httpx.AsyncClient, auth: AuthStub, admin: dict[str, str], store: Store, streams: Streams
) -> None:
    patient, doctor = auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    event_id, letter_id = uuid7(), uuid7()
    await store["dead_letters"].insert_one(
        {
            "_id": letter_id,
            "stream": contracts.APPOINTMENTS.name,
            "entryId": "1-0",
            "reason": "failing",
            "error": "KeyError: 'gone since'",
            "fields": entry(appointment(patient, doctor), event_id),
            "createdAt": datetime.now(UTC),
        }
    )
    answers = await asyncio.gather(*(replay(client, letter_id, admin) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert await store["notifications"].count_documents({"eventId": event_id}) == 4


async def test_an_undecodable_event_of_users_is_replayed_by_its_own_handler(
    client: httpx.AsyncClient, auth: AuthStub, admin: dict[str, str], store: Store, streams: Streams
) -> None:
    good, bad, user = uuid7(), uuid7(), auth.user(Role.PATIENT)
    letters = {good: entry(UserRegistered(user=user), good), bad: entry(UserRegistered(user=user), bad)}
    letters[bad]["payload"] = '{"type":"UserVanished"}'
    for event_id, fields in letters.items():
        await streams.put(contracts.USERS, {**fields, "version": "many"} if event_id == good else fields)
    await streams.settled()
    found = {one["eventId"]: one for one in await items(client, DEAD_LETTERS, admin)}
    answer = await replay(client, found[str(bad)]["id"], admin)
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("UnknownEventType: No event of this stream is called 'UserVanished'. ")
    # As if by a version that reads it.
    readable = signed(letters[good], auth.issuer)
    await store["dead_letters"].update_one({"fields.id": str(good)}, {"$set": {"fields": readable}})
    await store["users"].delete_one({"_id": user.id})
    assert (await replay(client, found[str(good)]["id"], admin)).status_code == 200
    assert await UserRepository(store).find([user.id]) == {user.id: user}


async def test_a_suspended_admin_replays_nothing(client: httpx.AsyncClient, auth: AuthStub, store: Store) -> None:
    admin = auth.register(Role.ADMIN)
    await UserRepository(store).put(msgspec.structs.replace(admin, status=UserStatus.SUSPENDED, version=2))
    answer = await replay(client, uuid7(), auth.bearer(admin))
    assert (answer.status_code, answer.json()["code"]) == (403, "account_suspended")
