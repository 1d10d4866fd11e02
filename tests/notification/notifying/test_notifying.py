"""From the streams to the inbox: everyone concerned is told, once, whatever is delivered when and how often."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from uuid_utils.compat import uuid7

from services.contracts import streams as contracts
from services.contracts.enums import AppointmentStatus, Role
from services.contracts.events import (
    AppointmentCancelled,
    AppointmentCreated,
    AppointmentRescheduled,
    AppointmentUpdated,
    Event,
    MailRequested,
    SessionRevoked,
    UserRegistered,
    UserState,
    UserUpdated,
)
from services.notification.repository import Store
from tests.notification.conftest import service_of
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of, metrics_of
from tests.support.streams import STARTS_AT, Streams, appointment, entry
from tests.support.waiting import eventually


@pytest.fixture
async def client(
    auth: AuthStub, streams: Streams, mongodb_url: str, redis_url: str
) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service_of(auth, mongodb_url, redis_url)) as client:
        yield client


@pytest.fixture
def pair(auth: AuthStub) -> tuple[UserState, UserState]:
    """A patient and a doctor, known to auth."""
    return auth.register(Role.PATIENT, "Bo Patient"), auth.register(Role.DOCTOR, "Ada Doctor")


async def told(store: Store, *recipients: UserState) -> list[dict[str, Any]]:
    ids = [recipient.id for recipient in recipients]
    return await store["notifications"].find({"recipientId": {"$in": ids}}).sort("_id").to_list(None)


async def has_been_told(store: Store, count: int, *recipients: UserState) -> None:
    async def holds() -> bool:
        return len(await told(store, *recipients)) >= count

    await eventually(holds)


async def dead_letters(store: Store, *ids: UUID) -> list[dict[str, Any]]:
    return await store["dead_letters"].find({"fields.id": {"$in": [str(one) for one in ids]}}).to_list(None)


async def test_both_are_told_in_their_own_words(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, streams: Streams
) -> None:
    patient = auth.user(Role.PATIENT, "Bo Patient", time_zone="America/New_York")
    doctor = auth.user(Role.DOCTOR, "Ada Doctor", time_zone="Europe/Berlin", locale="de")
    booked = appointment(patient, doctor)
    await streams.tell(UserRegistered(user=patient), UserRegistered(user=doctor))
    await streams.settled()
    await streams.tell(booked)
    await streams.settled()
    (to_patient,) = await inbox(client, auth, patient)
    (to_doctor,) = await inbox(client, auth, doctor)
    assert to_patient["message"] == (
        "Your appointment with Ada Doctor on Tuesday, 1 December 2026, 04:30 (America/New_York, UTC-05:00)"
        " has been requested and is not confirmed yet."
    )
    assert to_doctor["message"] == (
        "Ein Termin mit Bo Patient am Dienstag, 1. Dezember 2026, 10:30 Uhr (Europe/Berlin, UTC+01:00)"
        " ist angefragt und wartet auf Ihre Bestätigung."
    )
    for item, recipient in ((to_patient, patient), (to_doctor, doctor)):
        expected = {
            "recipientId": str(recipient.id),
            "appointmentId": str(booked.appointment_id),
            "patientId": str(patient.id),
            "doctorId": str(doctor.id),
            "type": "APPOINTMENT_CREATED",
            "channel": "IN_APP",
            "status": "SENT",
            "attempts": 1,
            "readAt": None,
        }
        assert expected.items() <= item.items()
        assert item["sentAt"] == item["createdAt"]
    assert auth.asked.count(patient.id) == 0
    assert not [one for one in await told(store, patient, doctor) if "nextAttemptAt" in one]


async def inbox(client: httpx.AsyncClient, auth: AuthStub, user: UserState) -> list[dict[str, Any]]:
    answer = await client.get(f"/api/notifications/{user.id}", headers=auth.bearer(user))
    assert answer.status_code == 200
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


@pytest.mark.usefixtures("client")
async def test_every_kind_of_event_has_its_type(
    store: Store, streams: Streams, pair: tuple[UserState, UserState]
) -> None:
    confirmed, cancelled = AppointmentStatus.CONFIRMED, AppointmentStatus.CANCELLED
    await streams.tell(
        appointment(*pair, AppointmentCreated),
        appointment(*pair, AppointmentUpdated, status=confirmed),
        appointment(*pair, AppointmentCancelled, status=cancelled, reason_code="unanswered"),
        appointment(*pair, AppointmentRescheduled, status=confirmed, previous_starts_at=STARTS_AT),
        appointment(*pair, AppointmentUpdated),
    )
    await streams.settled()
    types = sorted(document["type"] for document in await told(store, pair[0]))
    assert types == [
        "APPOINTMENT_CANCELLED",
        "APPOINTMENT_CREATED",
        "APPOINTMENT_RESCHEDULED",
        "APPOINTMENT_UPDATED",
        "APPOINTMENT_UPDATED",
    ]


async def test_an_event_delivered_five_times_to_two_consumers_tells_each_once(
    auth: AuthStub,
    store: Store,
    streams: Streams,
    pair: tuple[UserState, UserState],
    mongodb_url: str,
    redis_url: str,
) -> None:
    events = [(appointment(*pair), uuid7()) for _ in range(20)]
    deliveries = events * 5
    random.shuffle(deliveries)
    first, second = (service_of(auth, mongodb_url, redis_url) for _ in range(2))
    async with client_of(first), client_of(second):
        await asyncio.gather(*(streams.tell(event, event_id=event_id) for event, event_id in deliveries))
        await streams.settled()
        metrics = [await metrics_of(service) for service in (first, second)]
    keys = [(document["eventId"], document["recipientId"]) for document in await told(store, *pair)]
    assert len(keys) == len(set(keys)) == 40
    assert sum(found.get('events_duplicates_total{stream="booking.appointments"}', 0) for found in metrics) == 80
    added = 'notifications_added_total{channel="IN_APP",type="APPOINTMENT_CREATED"}'
    assert sum(found.get(added, 0) for found in metrics) == 40
    assert await dead_letters(store, *(event_id for _, event_id in events)) == []


@pytest.mark.usefixtures("client")
async def test_in_any_order_each_event_tells_and_the_projections_end_at_the_last_version(
    auth: AuthStub, store: Store, streams: Streams
) -> None:
    patient, doctor = auth.register(Role.PATIENT), auth.register(Role.DOCTOR)
    appointments = [uuid7() for _ in range(5)]
    events: list[Event] = []
    for appointment_id in appointments:
        steps: list[tuple[Any, AppointmentStatus, dict[str, Any]]] = [
            (AppointmentCreated, AppointmentStatus.PENDING, {}),
            (AppointmentUpdated, AppointmentStatus.CONFIRMED, {}),
            (AppointmentRescheduled, AppointmentStatus.CONFIRMED, {"previous_starts_at": STARTS_AT}),
            (AppointmentCancelled, AppointmentStatus.CANCELLED, {}),
        ]
        for version, (kind, status, more) in enumerate(steps, 1):
            events.append(
                appointment(
                    patient, doctor, kind, appointment_id=appointment_id, status=status, version=version, **more
                )
            )
    for version in range(1, 9):
        state = msgspec.structs.replace(patient, full_name=f"Version {version}", version=version)
        events.append(UserUpdated(user=state))
    random.shuffle(events)
    await asyncio.gather(*(streams.tell(event) for event in events))
    await streams.settled()
    assert len(await told(store, patient)) == len(await told(store, doctor)) == 20
    ends = await store["appointments"].find({"_id": {"$in": appointments}}).to_list(None)
    assert [(end["version"], end["status"], end["startsAt"]) for end in ends] == [(4, "CANCELLED", STARTS_AT)] * 5
    assert {(end["patientId"], end["doctorId"]) for end in ends} == {(patient.id, doctor.id)}
    user = await store["users"].find_one({"_id": patient.id})
    assert user is not None
    assert (user["version"], user["fullName"]) == (8, "Version 8")


async def test_what_was_told_while_the_service_was_away_reaches_everyone_once(
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
    await streams.tell(*(appointment(*pair) for _ in range(200)))
    async with client_of(service_of(auth, mongodb_url, redis_url)):
        await streams.settled()
    assert len(await told(store, *pair)) == 2 + 400


async def test_somebody_whose_own_event_is_still_on_its_way_is_asked_for_once(
    client: httpx.AsyncClient, auth: AuthStub, store: Store, streams: Streams, pair: tuple[UserState, UserState]
) -> None:
    patient, doctor = pair
    await streams.tell(appointment(patient, doctor))
    await streams.settled()
    await streams.tell(appointment(patient, doctor))
    await streams.settled()
    assert [auth.asked.count(user.id) for user in pair] == [1, 1]
    assert {document["recipientId"] for document in await told(store, *pair)} == {patient.id, doctor.id}
    assert ["Bo Patient" in one["message"] for one in await inbox(client, auth, doctor)] == [True, True]


@pytest.mark.usefixtures("client")
async def test_while_auth_is_down_nobody_is_told_without_a_name_and_later_everybody_is(
    auth: AuthStub, store: Store, streams: Streams, pair: tuple[UserState, UserState]
) -> None:
    known = auth.user(Role.PATIENT), auth.user(Role.DOCTOR)
    await streams.tell(*(UserRegistered(user=user) for user in known))
    await streams.settled()
    event_id = uuid7()
    auth.up = False
    try:
        await streams.tell(appointment(*pair), event_id=event_id)
        await streams.tell(appointment(*known))
        await has_been_told(store, 2, *known)
        await asyncio.sleep(4)
        assert await told(store, *pair) == []
    finally:
        auth.up = True
    await streams.settled()
    assert len(await told(store, *pair)) == 2
    assert await dead_letters(store, event_id) == []


@pytest.mark.usefixtures("client")
async def test_poison_becomes_a_dead_letter_as_it_came_and_delays_no_neighbour(
    auth: AuthStub, store: Store, streams: Streams, pair: tuple[UserState, UserState]
) -> None:
    await streams.tell(appointment(*pair))
    await streams.settled()
    good = appointment(*pair)
    ids = [uuid7() for _ in range(6)]
    poison = [
        entry(good, ids[0]) | {"payload": "{"},
        entry(good, ids[1]) | {"payload": '{"type":"AppointmentSwallowed"}'},
        entry(good, ids[2]) | {"payload": "x" * 1_000_000},
        entry(good, ids[3]) | {"payload": '{"type":"AppointmentCreated","appointmentId":7}'},
        entry(good, ids[4]) | {"version": "many", "$where": "1", "a.b": "2"},
    ]
    no_event_id = {"payload": "nothing else", "mark": str(ids[5])}
    for fields in (*poison, no_event_id):
        await streams.put(contracts.APPOINTMENTS, fields)
        await streams.tell(appointment(*pair))
    await has_been_told(store, 14, *pair)
    await streams.settled()
    letters = {letter["fields"]["id"]: letter for letter in await dead_letters(store, *ids)}
    assert [letters[str(event_id)]["fields"] for event_id in ids[:5]] == poison
    assert {letter["reason"] for letter in letters.values()} == {"undecodable"}
    assert {letter["stream"] for letter in letters.values()} == {"booking.appointments"}
    assert await store["dead_letters"].count_documents({"fields.mark": str(ids[5])}) == 1
    assert len(await told(store, *pair)) == 14


@pytest.mark.usefixtures("client")
async def test_an_event_about_somebody_whom_auth_does_not_know_becomes_a_dead_letter(
    auth: AuthStub, store: Store, streams: Streams, pair: tuple[UserState, UserState]
) -> None:
    event_id = uuid7()
    await streams.tell(appointment(pair[0], auth.user(Role.DOCTOR)), event_id=event_id)
    await streams.tell(appointment(*pair))
    await has_been_told(store, 2, *pair)
    await streams.settled()
    (letter,) = await dead_letters(store, event_id)
    assert (letter["reason"], letter["error"].split(":")[0]) == ("failing", "UnknownUser")
    assert len(await told(store, *pair)) == 2


async def test_the_end_of_a_session_is_remembered_until_its_tokens_have_expired(
    client: httpx.AsyncClient, streams: Streams, store: Store
) -> None:
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1200)
    ended = SessionRevoked(session_id=uuid7(), user_id=uuid7(), expires_at=expires_at)
    await streams.tell(ended, MailRequested(mail_id=uuid7()), ended)
    await streams.settled()
    assert await store["dead_letters"].count_documents({"fields.type": "MailRequested"}) == 0
    found = await store["revoked_sessions"].find_one({"_id": ended.session_id})
    assert found is not None
    assert found["expiresAt"] == expires_at
    index = (await store["revoked_sessions"].index_information())["revoked_session_expiry"]
    assert (index["key"], index["expireAfterSeconds"]) == ([("expiresAt", 1)], 0)
