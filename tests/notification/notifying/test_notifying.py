"""From the streams to the inbox: each recipient is told once, whatever arrives when and how often."""

import asyncio
import random
from typing import Any

import httpx
import msgspec
import pytest
from uuid_utils.compat import uuid7

from services.contracts.enums import AppointmentStatus, Role
from services.contracts.events import (
    AppointmentCancelled,
    AppointmentCreated,
    AppointmentRescheduled,
    AppointmentUpdated,
    Event,
    UserRegistered,
    UserState,
    UserUpdated,
)
from services.notification.repository import Store
from tests.notification.notifying.telling import dead_letters, has_been_told, inbox, told
from tests.notification.services import service_of
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of, metrics_of
from tests.support.streams import STARTS_AT, Streams, appointment


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
