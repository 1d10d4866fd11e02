"""What an admin sees of deliveries and dead letters, and what a replay makes of them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from uuid_utils.compat import uuid7

from services.contracts import streams as contracts
from services.contracts.enums import Role, UserStatus
from services.contracts.events import AppointmentCreated, UserRegistered, UserState
from services.kit.http.paging import encode_cursor
from services.notification.delivery.outcomes import Reason
from services.notification.delivery.repository import DeliveryRepository
from services.notification.directory.repository import UserRepository
from services.notification.notifying.schemas import Channel
from services.notification.repository import Store
from tests.notification.conftest import service_of
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer
from tests.support.running import client_of
from tests.support.streams import Streams, appointment, entry, signed
from tests.support.waiting import eventually

DELIVERIES = "/api/notifications/deliveries"
NOBODYS = "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073"
DEAD_LETTERS = "/api/notifications/dead-letters"


@pytest.fixture
async def client(
    auth: AuthStub, streams: Streams, mongodb_url: str, redis_url: str, mail_server: MailServer
) -> AsyncIterator[httpx.AsyncClient]:
    service = service_of(auth, mongodb_url, redis_url, SMTP_URL=mail_server.url, MAIL_FROM="a@example.com")
    async with client_of(service) as client:
        yield client


@pytest.fixture
def admin(auth: AuthStub) -> dict[str, str]:
    return auth.bearer(auth.register(Role.ADMIN))


@pytest.fixture
def pair(auth: AuthStub) -> tuple[UserState, UserState]:
    return auth.register(Role.PATIENT, "Bo Patient"), auth.register(Role.DOCTOR, "Ada Doctor")


async def items(client: httpx.AsyncClient, path: str, headers: dict[str, str], **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(path, params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def replay(client: httpx.AsyncClient, letter: object, headers: dict[str, str]) -> httpx.Response:
    return await client.post(f"{DEAD_LETTERS}/{letter}/replay", headers=headers)


async def undelivered(client: httpx.AsyncClient, admin: dict[str, str], booked: AppointmentCreated) -> dict[str, Any]:
    """The one delivery of that appointment that failed, when it has."""

    async def holds() -> bool:
        return bool(await failures())

    async def failures() -> list[dict[str, Any]]:
        found = await items(client, DELIVERIES, admin, appointmentId=str(booked.appointment_id))
        return [one for one in found if one["status"] == "FAILED"]

    await eventually(holds)
    (failed,) = await failures()
    return failed


async def test_an_admin_sees_why_somebody_was_not_told(
    client: httpx.AsyncClient,
    admin: dict[str, str],
    streams: Streams,
    mail_server: MailServer,
    pair: tuple[UserState, UserState],
) -> None:
    patient, doctor = pair
    mail_server.refused = {patient.email: "550 5.1.1 no such user", doctor.email: "450 4.2.1 full"}
    booked, event_id = appointment(patient, doctor), uuid7()
    await streams.tell(booked, event_id=event_id)
    await undelivered(client, admin, booked)

    async def put_off() -> bool:
        found = await items(client, DELIVERIES, admin, appointmentId=str(booked.appointment_id))
        return any(one["reason"] == "server_busy" for one in found)

    await eventually(put_off)
    found = await items(client, DELIVERIES, admin, appointmentId=str(booked.appointment_id))
    assert [one["id"] for one in found] == sorted((one["id"] for one in found), reverse=True)
    assert {(one["recipientId"], one["channel"], one["status"], one["attempts"], one["reason"]) for one in found} == {
        (str(patient.id), "IN_APP", "SENT", 1, None),
        (str(doctor.id), "IN_APP", "SENT", 1, None),
        (str(patient.id), "EMAIL", "FAILED", 1, "recipient_refused"),
        (str(doctor.id), "EMAIL", "PENDING", 1, "server_busy"),
    }
    assert {one["eventId"] for one in found} == {str(event_id)}
    for one in found:
        assert (one["sentAt"] is not None) is (one["status"] == "SENT")
        assert (one["failedAt"] is not None) is (one["status"] == "FAILED")
        assert (one["nextAttemptAt"] is not None) is (one["status"] == "PENDING")
        if one["nextAttemptAt"]:
            assert datetime.fromisoformat(one["nextAttemptAt"]) > datetime.now(UTC) + timedelta(seconds=2)
    first = await client.get(
        DELIVERIES, params={"appointmentId": str(booked.appointment_id), "limit": 3}, headers=admin
    )
    rest = await client.get(
        DELIVERIES,
        params={"appointmentId": str(booked.appointment_id), "cursor": first.json()["nextCursor"]},
        headers=admin,
    )
    assert first.json()["items"] + rest.json()["items"] == found
    assert rest.json()["nextCursor"] is None
    assert await items(client, DELIVERIES, admin, appointmentId=str(uuid7())) == []


async def test_what_an_older_version_stored_is_listed(
    client: httpx.AsyncClient, admin: dict[str, str], store: Store
) -> None:
    now, appointment_id = datetime.now(UTC), uuid7()
    document = {
        "_id": uuid7(),
        "eventId": uuid7(),
        "recipientId": uuid7(),
        "channel": "IN_APP",
        "type": "APPOINTMENT_CREATED",
        "appointmentId": appointment_id,
        "patientId": uuid7(),
        "doctorId": uuid7(),
        "message": "Your appointment is confirmed.",
        "status": "SENT",
        "createdAt": now,
        "sentAt": now,
        "readAt": None,
        "attempts": 1,
        "unread": True,
    }
    await store["notifications"].insert_one(document)
    (found,) = await items(client, DELIVERIES, admin, appointmentId=str(appointment_id))
    assert (found["id"], found["nextAttemptAt"], found["reason"]) == (str(document["_id"]), None, None)
    assert (await replay(client, document["_id"], admin)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"{DELIVERIES}?appointmentId={NOBODYS}"),
        ("GET", DEAD_LETTERS),
        ("POST", f"{DEAD_LETTERS}/{NOBODYS}/replay"),
    ],
)
async def test_they_are_an_admins(
    client: httpx.AsyncClient, auth: AuthStub, admin: dict[str, str], method: str, path: str
) -> None:
    for caller, expected in (
        ({}, 401),
        (auth.bearer(auth.register(Role.PATIENT)), 403),
        (auth.bearer(auth.register(Role.DOCTOR)), 403),
        (admin, 200 if method == "GET" else 404),
    ):
        answer = await client.request(method, path, headers=caller)
        assert answer.status_code == expected
        if expected >= 400:
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (f"{DELIVERIES}?appointmentId=1", "appointmentId"),
        (f"{DELIVERIES}?appointmentId={NOBODYS}&cursor=@@", "cursor"),
        (f"{DEAD_LETTERS}?cursor=WzFd", "cursor"),
        (f"{DEAD_LETTERS}?cursor={encode_cursor(('0001-01-01T00:00:00+23:59', NOBODYS))}", "cursor"),
        (f"{DEAD_LETTERS}?cursor={encode_cursor(('9999-12-31T23:59:59-23:59', NOBODYS))}", "cursor"),
        (f"{DEAD_LETTERS}?cursor={encode_cursor(('2026-12-01T09:30:00', NOBODYS))}", "cursor"),
        (f"{DEAD_LETTERS}?limit=0", "limit"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused_by_name(
    client: httpx.AsyncClient, admin: dict[str, str], path: str, field: str
) -> None:
    answer = await client.get(path, headers=admin)
    assert answer.status_code == 400, answer.text
    assert [error["path"] for error in answer.json()["errors"]] == [field]


async def test_deliveries_are_asked_for_by_appointment(client: httpx.AsyncClient, admin: dict[str, str]) -> None:
    answer = await client.get(DELIVERIES, headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert answer.json()["errors"] == [{"path": "appointmentId", "message": "Required"}]


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


async def test_pages_of_both_kinds_are_complete_and_newest_first(
    client: httpx.AsyncClient, admin: dict[str, str], store: Store, pair: tuple[UserState, UserState]
) -> None:
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    expected = []
    for number in range(12):
        letter_id, died_at = uuid7(), long_ago + timedelta(seconds=number // 4)  # several at the same moment
        expected.append((died_at, str(letter_id)))
        if number % 2:
            await store["dead_letters"].insert_one(
                {
                    "_id": letter_id,
                    "stream": "auth.users",
                    "entryId": f"{number}-0",
                    "reason": "undecodable",
                    "error": "ValueError: no",
                    "fields": {"id": str(uuid7())},
                    "createdAt": died_at,
                }
            )
        else:
            await store["notifications"].insert_one(
                {
                    "_id": letter_id,
                    "eventId": uuid7(),
                    "recipientId": uuid7(),
                    "channel": "EMAIL",
                    "type": "APPOINTMENT_CREATED",
                    "appointmentId": uuid7(),
                    "message": "",
                    "status": "FAILED",
                    "createdAt": died_at,
                    "sentAt": None,
                    "readAt": None,
                    "attempts": 30,
                    "failedAt": died_at,
                    "reason": "timed_out",
                    "error": "no",
                }
            )
    found: list[str] = []
    cursor = None
    while True:
        answer = await client.get(
            DEAD_LETTERS, params={"limit": 5, **({"cursor": cursor} if cursor else {})}, headers=admin
        )
        found += [one["id"] for one in answer.json()["items"] if one["diedAt"].startswith("2026-01-01T00:00:0")]
        cursor = answer.json()["nextCursor"]
        if cursor is None:
            break
    assert found == [letter_id for _, letter_id in sorted(expected, reverse=True)]


async def test_a_suspended_admin_replays_nothing(client: httpx.AsyncClient, auth: AuthStub, store: Store) -> None:
    admin = auth.register(Role.ADMIN)
    await UserRepository(store).put(msgspec.structs.replace(admin, status=UserStatus.SUSPENDED, version=2))
    answer = await replay(client, uuid7(), auth.bearer(admin))
    assert (answer.status_code, answer.json()["code"]) == (403, "account_suspended")


async def test_a_text_that_looks_like_a_field_is_stored_as_it_is(store: Store) -> None:
    deliveries, claimed = DeliveryRepository(store), []
    for _ in range(2):
        event = {
            "channel": "EMAIL",
            "status": "PENDING",
            "attempts": 0,
            "event": "{}",
            "message": "",
            "createdAt": datetime.now(UTC),
        }
        keys = {"_id": uuid7(), "eventId": uuid7(), "recipientId": uuid7()}
        await store["notifications"].insert_one({**keys, **event, "nextAttemptAt": datetime.fromtimestamp(0, UTC)})
        claim = await deliveries.claim(Channel.EMAIL, 60)
        assert claim is not None
        claimed.append(claim)
    await deliveries.fail(claimed[0], Reason.MESSAGE_REFUSED, "$recipientId")
    await deliveries.mark_sent(claimed[1])
    failed, sent = [await store["notifications"].find_one_and_delete({"_id": claim.id}) for claim in claimed]
    assert failed is not None
    assert sent is not None
    assert failed["error"] == "$recipientId"
    assert sent["status"] == "SENT"
