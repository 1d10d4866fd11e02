"""`recheck-time-zones`: appointments after a change of a zone's rules."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from typer.testing import CliRunner, Result

from services.booking.appointments.time_zones import instant_of
from services.booking.cli import app
from services.contracts.events import AppointmentRescheduled, decode_appointment_event
from services.kit.zones import TZDATA_VERSION
from services.standalone.databases import DatabaseUrls
from tests.booking.clinic import Clinic, book, change, free_time, get, history, wire

HOUR = timedelta(hours=1)


@pytest.fixture
async def recheck(booking_database: DatabaseUrls, database: asyncpg.Connection) -> Any:
    await database.execute("UPDATE appointments SET tzdata_version = $1", TZDATA_VERSION)

    def run() -> Result:
        runner = CliRunner(env={"BOOKING_DATABASE_URL": booking_database.application})
        with ThreadPoolExecutor(1) as another:  # a command has an event loop of its own
            return another.submit(runner.invoke, app, ["recheck-time-zones"]).result()

    return run


async def agreed_under_other_rules(
    database: asyncpg.Connection, appointment: dict[str, Any], wall: timedelta = timedelta()
) -> None:
    """Pretend that the zone's offset differed by `wall` at booking."""
    await database.execute(
        "UPDATE appointments SET tzdata_version = '2000.1', wall_time = wall_time + $2 WHERE id = $1",
        appointment["id"],
        wall,
    )


async def version_of_rules(database: asyncpg.Connection, appointment: dict[str, Any]) -> str:
    return str(await database.fetchval("SELECT tzdata_version FROM appointments WHERE id = $1", appointment["id"]))


async def test_an_appointment_keeps_its_wall_time_and_changes_its_instant(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, recheck: Any
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    appointment = (await change(client, doctor, await book(client, patient, doctor, at), status="CONFIRMED")).json()
    await agreed_under_other_rules(database, appointment, HOUR)
    agreed = await get(client, patient, appointment)
    result = recheck()
    assert result.exit_code == 0, result.stdout + result.stderr
    assert f"moved {appointment['id']}: {at.isoformat()} -> {(at + HOUR).isoformat()}" in result.stdout
    assert "moved: 1, could not be moved: 0" in result.stdout
    after = await get(client, patient, appointment)
    assert (after["dateTime"], after["endsAt"]) == (wire(at + HOUR), wire(at + 3 * HOUR / 2))
    assert (after["localDateTime"], after["status"], after["version"]) == (agreed["localDateTime"], "CONFIRMED", 3)
    entry = (await history(client, patient, appointment))[-1]
    assert (entry["actorRole"], entry["reason"]) == ("SYSTEM", "time_zone_rules_changed")
    payload = await database.fetchval(
        "SELECT payload::text FROM outbox WHERE aggregateid = $1 AND version = 3", appointment["id"]
    )
    event = decode_appointment_event(payload)
    assert isinstance(event, AppointmentRescheduled)
    assert event.previous_starts_at == at
    assert "moved: 0" in recheck().stdout


async def test_an_appointment_whose_instant_is_the_same_only_notes_the_new_rules(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, recheck: Any
) -> None:
    patient = clinic.patient()
    appointment = await book(client, patient, clinic.doctor())
    await agreed_under_other_rules(database, appointment)
    assert "moved: 0, could not be moved: 0" in recheck().stdout
    assert await get(client, patient, appointment) == appointment
    assert await version_of_rules(database, appointment) == TZDATA_VERSION


@pytest.mark.parametrize("direction", [1, -1])
async def test_neighbours_make_room_for_each_other(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, recheck: Any, direction: int
) -> None:
    doctor, at = clinic.doctor(), free_time()
    appointments = [await book(client, clinic.patient(), doctor, at + n * HOUR, durationMinutes=60) for n in range(3)]
    for appointment in appointments:
        await agreed_under_other_rules(database, appointment, direction * HOUR)
    result = recheck()
    assert "moved: 3, could not be moved: 0" in result.stdout
    after = [await get(client, doctor, appointment) for appointment in appointments]
    assert [appointment["dateTime"] for appointment in after] == [wire(at + (n + direction) * HOUR) for n in range(3)]


async def test_an_appointment_whose_new_place_is_taken_stays_and_is_reported(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, recheck: Any
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    appointment = await book(client, patient, doctor, at)
    await book(client, clinic.patient(), doctor, at + HOUR)
    await agreed_under_other_rules(database, appointment, HOUR)
    result = recheck()
    assert result.exit_code == 1
    assert f"conflict {appointment['id']}" in result.stdout
    assert "moved: 0, could not be moved: 1" in result.stdout
    assert (await get(client, patient, appointment))["dateTime"] == wire(at)
    assert await version_of_rules(database, appointment) == "2000.1"


async def test_a_wall_time_that_no_longer_exists_is_reported(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, recheck: Any
) -> None:
    """Berlin skips 02:00 to 03:00 on 26 March 2028."""
    patient = clinic.patient()
    appointment = await book(client, patient, clinic.doctor(), datetime(2028, 3, 26, 0, 30, tzinfo=UTC))
    await agreed_under_other_rules(database, appointment, HOUR)
    result = recheck()
    assert result.exit_code == 1
    assert f"no_such_time {appointment['id']}" in result.stdout
    assert "this time no longer exists" in result.stdout


async def test_an_overbooked_appointment_moves_onto_another(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection, recheck: Any
) -> None:
    doctor, at = clinic.doctor(), free_time()
    for start in (at, at + HOUR):
        await book(client, clinic.patient(), doctor, start)
    more = {"patientId": str(clinic.patient().id), "overbook": True, "reason": "Urgent"}
    appointment = await book(client, doctor, doctor, at, **more)
    await agreed_under_other_rules(database, appointment, HOUR)
    assert "moved: 1" in recheck().stdout
    after = await get(client, doctor, appointment)
    assert (after["dateTime"], after["overbooked"]) == (wire(at + HOUR), True)


def test_a_time_that_comes_twice_keeps_its_half() -> None:
    wall = datetime(2027, 10, 31, 2, 30)  # noqa: DTZ001
    for hour in (0, 1):
        instant = datetime(2027, 10, 31, hour, 30, tzinfo=UTC)
        assert instant_of(wall, "Europe/Berlin", near=instant) == instant


def test_a_time_that_is_skipped_is_no_instant() -> None:
    wall = datetime(2027, 3, 28, 2, 30)  # noqa: DTZ001
    assert instant_of(wall, "Europe/Berlin", near=datetime(2027, 3, 28, 1, 30, tzinfo=UTC)) is None
