"""GET /api/appointments/{id}/history returns whole states; what is stored is what changed."""

import json
from itertools import pairwise
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from services.booking.appointments.changes import WHOLE_EVERY
from tests.booking.clinic import Clinic, Person, book, change, free_time, history, wire

LONG_NOTE = "\N{MEMO}" * 2000


async def stored(database: asyncpg.Connection, appointment: dict[str, Any]) -> list[set[str]]:
    """Return the names of the fields in each history row."""
    query = """
        SELECT array(SELECT jsonb_object_keys(changes)) FROM appointment_history WHERE appointment_id = $1
        ORDER BY version
    """
    return [set(row[0]) for row in await database.fetch(query, UUID(appointment["id"]))]


async def pages(client: httpx.AsyncClient, by: Person, appointment: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        path = f"/api/appointments/{appointment['id']}/history"
        page = (await client.get(path, params=query, headers=by.headers)).json()
        found += page["items"]
        if page["nextCursor"] is None:
            return found
        query["cursor"] = page["nextCursor"]


async def test_a_change_stores_only_the_fields_that_it_changes(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(client, patient, doctor, notes=LONG_NOTE)
    for update in ({"status": "CONFIRMED"}, {"notes": "b"}, {"dateTime": wire(free_time())}, {"status": "CANCELLED"}):
        assert (await change(client, doctor, appointment, **update)).status_code == 200
    whole, *changes = await stored(database, appointment)
    assert len(whole) == 7
    assert changes == [{"status"}, {"notes"}, {"dateTime"}, {"status"}]


async def test_a_long_note_is_stored_once_and_not_by_every_change(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(client, patient, doctor, notes=LONG_NOTE)
    for minutes in range(10, 20):
        assert (await change(client, doctor, appointment, durationMinutes=minutes)).status_code == 200
    query = "SELECT octet_length(changes::text) FROM appointment_history WHERE appointment_id = $1 ORDER BY version"
    first, *others = [row[0] for row in await database.fetch(query, UUID(appointment["id"]))]
    assert first > len(LONG_NOTE)
    assert max(others) < 100


async def test_every_entry_has_the_whole_state_before_and_after_on_whatever_page(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient, at = clinic.doctor(), clinic.patient(), free_time()
    appointment = await book(client, patient, doctor, at, notes="first")
    states = [appointment]
    for number in range(2 * WHOLE_EVERY):
        update = {"notes": f"note {number}"} if number % 3 else {"durationMinutes": 10 + number}
        states.append((await change(client, doctor, appointment, **update)).json())
    whole = await pages(client, doctor, appointment, 100)
    assert [entry["version"] for entry in whole] == list(range(1, len(states) + 1))
    assert whole[0]["before"] is None
    for before, after in pairwise(whole):
        assert after["before"] == before["after"]
    for entry, state in zip(whole, states, strict=True):
        assert entry["after"] == {name: state[name] for name in entry["after"]}
    for limit in (1, 7, WHOLE_EVERY):
        assert await pages(client, doctor, appointment, limit) == whole
    fields = await stored(database, appointment)
    assert [number for number, names in enumerate(fields, 1) if len(names) == 7] == [1, WHOLE_EVERY, 2 * WHOLE_EVERY]
    assert await history(client, patient, appointment) == whole[:50]


async def test_rows_with_whole_states_are_read_like_changes(
    client: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    """As releases before stored them in every version."""
    doctor, patient = clinic.doctor(), clinic.patient()
    appointment = await book(client, patient, doctor, notes="first")
    for notes in ("second", None, "fourth"):
        assert (await change(client, doctor, appointment, notes=notes)).status_code == 200
    whole = await pages(client, doctor, appointment, 100)
    for entry in whole:
        query = """
            UPDATE appointment_history SET changes = NULL, after = $1::text::jsonb
            WHERE appointment_id = $2 AND version = $3
        """
        await database.execute(query, json.dumps(entry["after"]), UUID(appointment["id"]), entry["version"])
    for limit in (1, 100):
        assert await pages(client, doctor, appointment, limit) == whole
