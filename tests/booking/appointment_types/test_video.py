"""The link of a video call: random, and shown to the parties when they need it."""

from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from tests.booking.appointment_types.offers import alter, offer
from tests.booking.clinic import Clinic, Person, book, changed, get, starts_in_the_past

TEMPLATE = "https://meet.example.com/{room}?lang=en"
MINUTE = timedelta(minutes=1)


async def link(client: httpx.AsyncClient, by: Person, appointment: dict[str, Any]) -> Any:
    """Return what the appointment and the list of appointments agree on."""
    listed = await client.get("/api/appointments", params={"limit": 1}, headers=by.headers)
    shown = (await get(client, by, appointment))["joinUrl"]
    assert [one["joinUrl"] for one in listed.json()["items"] if one["id"] == appointment["id"]] in ([shown], [])
    return shown


async def video_call(client: httpx.AsyncClient, doctor: Person, patient: Person) -> dict[str, Any]:
    one = await offer(client, doctor, mode="VIDEO", joinUrlTemplate=TEMPLATE)
    return await book(client, patient, doctor, typeId=one["id"])


@pytest.mark.parametrize(("minutes_ahead", "shown"), [(16, False), (14, True), (0, True), (-29, True), (-31, False)])
async def test_the_link_is_shown_to_the_parties_from_15_minutes_before_the_start_until_the_end(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, minutes_ahead: int, shown: bool
) -> None:
    doctor, patient, admin = clinic.doctor(), clinic.patient(), clinic.admin()
    appointment = await video_call(client, doctor, patient)
    assert appointment["joinUrl"] is None
    await changed(client, doctor, appointment, status="CONFIRMED")
    await starts_in_the_past(database, appointment, -minutes_ahead * MINUTE)
    for party in (doctor, patient):
        url = await link(client, party, appointment)
        assert bool(url) is shown
        assert not shown or url.startswith("https://meet.example.com/")
    assert await link(client, admin, appointment) is None


async def test_every_appointment_has_a_room_of_its_own_that_nobody_can_guess(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor = clinic.doctor()
    one = await offer(client, doctor, mode="VIDEO", joinUrlTemplate=TEMPLATE)
    for _ in range(3):
        await book(client, clinic.patient(), doctor, typeId=one["id"])
    rows = await database.fetch("SELECT join_url FROM appointments WHERE doctor_id = $1", doctor.id)
    rooms = {row["join_url"].removeprefix("https://meet.example.com/").removesuffix("?lang=en") for row in rows}
    assert len(rooms) == 3
    assert all(len(bytes.fromhex(room)) == 16 for room in rooms)


async def test_the_link_stays_when_the_template_changes(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await video_call(client, doctor, patient)
    answer = await alter(
        client, doctor, doctor, appointment["type"], joinUrlTemplate="https://other.example.com/{room}"
    )
    assert answer.status_code == 200
    await starts_in_the_past(database, appointment, -MINUTE)
    assert (await link(client, patient, appointment)).startswith("https://meet.example.com/")


@pytest.mark.parametrize("status", ["CANCELLED", "NO_SHOW"])
async def test_the_link_of_what_does_not_take_place_is_not_shown(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, status: str
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await video_call(client, doctor, patient)
    await changed(client, doctor, appointment, status="CONFIRMED")
    await starts_in_the_past(database, appointment, MINUTE)
    assert await link(client, patient, appointment)
    ended = await changed(client, doctor, appointment, status=status)
    assert await link(client, patient, ended) is None


async def test_an_answer_to_a_move_does_not_show_it(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await video_call(client, doctor, patient)
    await starts_in_the_past(database, appointment, -10 * MINUTE)
    seen = await get(client, doctor, appointment)
    assert seen["joinUrl"]
    moved = await changed(client, doctor, appointment, dateTime=appointment["dateTime"])
    assert moved["joinUrl"] is None
    assert await link(client, doctor, moved) is None


async def test_a_video_call_without_a_template_has_no_link(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    one = await offer(client, doctor, mode="VIDEO")
    appointment = await book(client, patient, doctor, typeId=one["id"])
    await starts_in_the_past(database, appointment, -MINUTE)
    assert await link(client, patient, appointment) is None
