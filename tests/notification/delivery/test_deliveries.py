"""What an admin sees of deliveries and dead letters."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import Role
from services.contracts.events import UserState
from services.kit.http.paging import encode_cursor
from services.notification.delivery.outcomes import Reason
from services.notification.delivery.repository import DeliveryRepository
from services.notification.notifying.schemas import Channel
from services.notification.repository import Store
from tests.notification.delivery.listing import DEAD_LETTERS, DELIVERIES, NOBODYS, items, replay, undelivered
from tests.support.auth_stub import AuthStub
from tests.support.mail_server import MailServer
from tests.support.streams import Streams, appointment
from tests.support.waiting import eventually


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
