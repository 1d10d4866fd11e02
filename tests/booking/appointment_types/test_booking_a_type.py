"""What an appointment is booked as: the type that is named, or the default, and who may book it."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.booking.appointment_types.offers import alter, offer, open_hours, slots, withdraw
from tests.booking.clinic import (
    Clinic,
    Person,
    assert_refused,
    book,
    changed,
    free_time,
    get,
    post,
    request_for,
    starts_in_the_past,
    wire,
)
from tests.booking.holds.holding import booking_of, held, hold_of, post_hold

HOUR = timedelta(hours=1)


async def refusal(
    client: httpx.AsyncClient, by: Person, doctor: Person, status: int, code: str, path: str | None = None, **more: Any
) -> None:
    assert_refused(await post(client, by, request_for(doctor, **more)), status, code, path)


async def test_an_appointment_keeps_what_its_type_was(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    one = await offer(client, doctor, name="Check-up", durationMinutes=45, price="80.5", mode="PHONE")
    appointment = await book(client, patient, doctor, typeId=one["id"])
    assert appointment["type"] == {"id": one["id"], "name": "Check-up", "mode": "PHONE", "price": "80.50"}
    assert appointment["durationMinutes"] == 45
    await alter(client, doctor, doctor, one, name="Other", price=None, mode="VIDEO", durationMinutes=60)
    await withdraw(client, doctor, doctor, one)
    assert await get(client, patient, appointment) == appointment
    listed = await client.get("/api/appointments", headers=doctor.headers)
    assert listed.json()["items"] == [appointment]
    moved = await changed(client, doctor, appointment, dateTime=wire(free_time()))
    assert (moved["type"], moved["durationMinutes"]) == (appointment["type"], 45)


async def test_of_a_doctor_without_types_nothing_changes(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    await offer(client, doctor, active=False)
    plain = await book(client, patient, doctor)
    assert (plain["type"], plain["joinUrl"], plain["durationMinutes"]) == (None, None, 30)
    longer = await book(client, patient, doctor, durationMinutes=50)
    assert (longer["type"], longer["durationMinutes"]) == (None, 50)


async def test_a_patient_who_names_no_type_books_the_first_that_everyone_may_book(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor)
    await offer(client, doctor, name="For staff", bookableBy="STAFF", position=0)
    await offer(client, doctor, name="Retired", active=False, position=1)
    second = await offer(client, doctor, name="Second", durationMinutes=60, position=3)
    first = await offer(client, doctor, name="First", durationMinutes=20, position=2)
    choices: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, first),
        ({"durationMinutes": 60}, second),
        ({"typeId": second["id"], "durationMinutes": 60}, second),
    ]
    for more, expected in choices:
        query: dict[str, Any] = {"doctorId": str(doctor.id), "from": wire(at), "limit": 1, **more}
        listed = await client.get("/api/slots", params=query)
        (slot,) = listed.json()["items"]
        appointment = await book(client, patient, doctor, at, **more)
        assert (appointment["type"]["name"], slot["typeId"]) == (expected["name"], expected["id"])
        assert (slot["startsAt"], slot["endsAt"]) == (appointment["dateTime"], appointment["endsAt"])
        await changed(client, patient, appointment, status="CANCELLED")
    await refusal(client, patient, doctor, 400, "invalid_request", "durationMinutes", durationMinutes=30)
    await refusal(
        client, patient, doctor, 400, "invalid_request", "durationMinutes", typeId=first["id"], durationMinutes=60
    )
    unknown: dict[str, Any] = {"doctorId": str(doctor.id), "durationMinutes": 30}
    assert_refused(await client.get("/api/slots", params=unknown), 400, "invalid_request", "durationMinutes")


async def test_the_doctor_and_admins_book_any_length_with_or_without_a_type(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, admin, patient = clinic.doctor(), clinic.admin(), str(clinic.patient().id)
    one = await offer(client, doctor, bookableBy="STAFF", durationMinutes=45)
    for by in (doctor, admin):
        plain = await book(client, by, doctor, patientId=patient)
        assert (plain["type"], plain["durationMinutes"]) == (None, 30)
        typed = await book(client, by, doctor, patientId=patient, typeId=one["id"])
        assert (typed["type"]["id"], typed["durationMinutes"]) == (one["id"], 45)
        longer = await book(client, by, doctor, patientId=patient, typeId=one["id"], durationMinutes=60)
        assert (longer["type"]["id"], longer["durationMinutes"]) == (one["id"], 60)


async def test_a_type_that_cannot_be_booked_is_refused(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient, other = clinic.doctor(), clinic.patient(), clinic.doctor()
    retired = await offer(client, doctor, active=False)
    elsewhere = await offer(client, other)
    for by, more in ((patient, {}), (doctor, {"patientId": str(patient.id)})):
        await refusal(client, by, doctor, 409, "type_unavailable", typeId=retired["id"], **more)
        await refusal(client, by, doctor, 404, "type_not_found", typeId=elsewhere["id"], **more)
        await refusal(client, by, doctor, 404, "type_not_found", typeId=str(uuid4()), **more)
        await refusal(client, by, doctor, 400, "invalid_request", "typeId", typeId="first", **more)
    for one, status, code in ((retired, 409, "type_unavailable"), (elsewhere, 404, "type_not_found")):
        query = {"doctorId": str(doctor.id), "typeId": one["id"]}
        assert_refused(await client.get("/api/slots", params=query), status, code)


async def test_what_staff_alone_may_book_no_patient_does(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    one = await offer(client, doctor, bookableBy="STAFF")
    await refusal(client, patient, doctor, 409, "type_unavailable", typeId=one["id"])
    await refusal(client, patient, doctor, 409, "type_unavailable")
    assert_refused(await client.get("/api/slots", params={"doctorId": str(doctor.id)}), 409, "type_unavailable")
    assert await slots(client, doctor, typeId=one["id"])


@pytest.mark.parametrize(
    ("status", "hours_ago", "known"),
    [
        (None, 0, False),
        ("PENDING", 0, False),
        ("CONFIRMED", 0, False),
        ("CONFIRMED", 1, True),
        ("COMPLETED", 1, True),
        ("NO_SHOW", 1, False),
        ("CANCELLED", 0, False),
    ],
)
async def test_a_patient_is_known_after_an_appointment(
    client: httpx.AsyncClient,
    clinic: Clinic,
    database: asyncpg.Connection,
    status: str | None,
    hours_ago: int,
    known: bool,
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    if status is not None:
        earlier = await book(client, patient, doctor)
        if status == "CANCELLED":
            await changed(client, doctor, earlier, status=status)
        elif status != "PENDING":
            earlier = await changed(client, doctor, earlier, status="CONFIRMED")
        if hours_ago:
            await starts_in_the_past(database, earlier, hours_ago * HOUR)
        if status in ("COMPLETED", "NO_SHOW"):
            await changed(client, doctor, earlier, status=status)
    await book(client, patient, clinic.doctor())
    one = await offer(client, doctor, bookableBy="KNOWN_PATIENTS")
    answer = await post(client, patient, request_for(doctor, typeId=one["id"]))
    assert answer.status_code == (201 if known else 409), answer.text
    await book(client, doctor, doctor, patientId=str(patient.id), typeId=one["id"])


@pytest.mark.parametrize("auto_confirm", [False, True])
@pytest.mark.parametrize("requires", [None, False, True])
async def test_the_type_or_else_the_schedule_says_who_confirms(
    client: httpx.AsyncClient, clinic: Clinic, auto_confirm: bool, requires: bool | None
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    await open_hours(client, doctor, autoConfirm=auto_confirm)
    one = await offer(client, doctor, requiresConfirmation=requires)
    status = "CONFIRMED" if (auto_confirm if requires is None else not requires) else "PENDING"
    appointment = await book(client, patient, doctor, at, typeId=one["id"])
    assert appointment["status"] == status
    # As booked: what the type says later is for later appointments.
    await alter(client, doctor, doctor, one, requiresConfirmation=not requires)
    if status == "PENDING":
        await changed(client, doctor, appointment, status="CONFIRMED")
    assert (await changed(client, patient, appointment, dateTime=wire(at + HOUR)))["status"] == status


async def test_a_held_time_is_booked_as_the_type_that_it_was_held_as(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    video = {"mode": "VIDEO", "joinUrlTemplate": "https://meet.example.com/{room}", "requiresConfirmation": False}
    buffers = {"bufferBeforeMinutes": 10, "bufferAfterMinutes": 15}
    one = await offer(client, doctor, name="As held", durationMinutes=45, price="99.50", **buffers, **video)
    other = await offer(client, doctor)
    hold = await held(client, patient, doctor, at)
    assert (hold["typeId"], hold["durationMinutes"]) == (one["id"], 45)
    (listed,) = (await client.get("/api/holds", headers=patient.headers)).json()["items"]
    assert listed == hold
    after = request_for(doctor, at + timedelta(minutes=50), typeId=other["id"])
    assert_refused(await post(client, clinic.patient(), after), 409, "slot_taken")
    changes = await alter(client, doctor, doctor, one, name="Since", durationMinutes=30, price="1.00", active=False)
    assert changes.status_code == 200, changes.text
    body = booking_of(hold)
    assert_refused(await post(client, patient, {**body, "typeId": other["id"]}), 400, "invalid_request", "typeId")
    answer = await post(client, patient, {**body, "typeId": one["id"]})
    assert answer.status_code == 201, answer.text
    booked = answer.json()
    assert (booked["id"], booked["status"], booked["durationMinutes"]) == (hold["id"], "CONFIRMED", 45)
    assert booked["type"] == {"id": one["id"], "name": "As held", "mode": "VIDEO", "price": "99.50"}
    ((blocked, url),) = await database.fetch("SELECT blocked, join_url FROM appointments WHERE id = $1", hold["id"])
    assert (blocked.lower, blocked.upper) == (at - timedelta(minutes=10), at + HOUR)
    assert url.startswith("https://meet.example.com/")


async def test_a_patient_holds_only_what_they_may_book(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    staff = await offer(client, doctor, bookableBy="STAFF")
    assert_refused(await post_hold(client, patient, hold_of(doctor)), 409, "type_unavailable")
    assert_refused(await post_hold(client, patient, hold_of(doctor, typeId=staff["id"])), 409, "type_unavailable")
    assert_refused(await post_hold(client, patient, hold_of(doctor, typeId=str(uuid4()))), 404, "type_not_found")
    by_doctor = await held(client, doctor, doctor, typeId=staff["id"], patientId=str(patient.id))
    assert (await post(client, patient, booking_of(by_doctor))).json()["type"]["id"] == staff["id"]
    everyone = await offer(client, doctor, durationMinutes=60)
    for more in ({}, {"typeId": everyone["id"]}):
        wrong = hold_of(doctor, durationMinutes=30, **more)
        assert_refused(await post_hold(client, patient, wrong), 400, "invalid_request", "durationMinutes")


async def test_a_key_of_before_there_were_types_belongs_to_the_same_request(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    """The release before took 30 minutes for the default, and left them out of what a key was compared by."""
    doctor, patient = clinic.doctor(), clinic.patient()
    by = patient._replace(headers={**patient.headers, "Idempotency-Key": uuid4().hex})
    body = request_for(doctor)
    first = await post(client, by, body)
    again = await post(client, by, {**body, "durationMinutes": 30})
    assert (again.status_code, again.content) == (201, first.content)
    assert_refused(await post(client, by, {**body, "durationMinutes": 45}), 422, "idempotency_key_reused")
    assert_refused(await post(client, by, {**body, "typeId": str(uuid4())}), 422, "idempotency_key_reused")
