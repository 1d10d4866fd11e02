"""Holding times, and booking them, over HTTP."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from tests.booking.clinic import Person, request_for

EVERY_DAY = [{"weekday": weekday, "start": "09:00", "end": "12:00"} for weekday in range(1, 8)]
HOURS: dict[str, Any] = {"timeZone": "UTC", "horizonDays": 3650, "weekly": [{"hours": EVERY_DAY}]}
HALF_HOUR, HOUR = timedelta(minutes=30), timedelta(hours=1)


async def open_hours(client: httpx.AsyncClient, doctor: Person, on_conflict: str = "", **update: Any) -> None:
    path, query = f"/api/availability/{doctor.id}", {"onConflict": on_conflict} if on_conflict else {}
    answer = await client.put(path, params=query, json={**HOURS, **update}, headers=doctor.headers)
    assert answer.status_code == 200, answer.text


def hold_of(doctor: Person, at: datetime | None = None, **more: Any) -> dict[str, Any]:
    body = request_for(doctor, at, **more)
    return {name: value for name, value in body.items() if name != "notes"}


async def post_hold(client: httpx.AsyncClient, person: Person, body: dict[str, Any], **headers: str) -> httpx.Response:
    return await client.post("/api/holds", json=body, headers={**person.headers, **headers})


async def held(
    client: httpx.AsyncClient, by: Person, doctor: Person, at: datetime | None = None, **more: Any
) -> dict[str, Any]:
    answer = await post_hold(client, by, hold_of(doctor, at, **more))
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def booking_of(hold: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"holdId": hold["id"], "doctorId": hold["doctorId"], "dateTime": hold["dateTime"], **more}


async def release(client: httpx.AsyncClient, by: Person, hold: dict[str, Any]) -> httpx.Response:
    return await client.delete(f"/api/holds/{hold['id']}", headers=by.headers)


async def listed(client: httpx.AsyncClient, by: Person, **query: Any) -> list[str]:
    answer = await client.get(
        "/api/holds", params={key: str(value) for key, value in query.items()}, headers=by.headers
    )
    assert answer.status_code == 200, answer.text
    return [hold["id"] for hold in answer.json()["items"]]


async def expire(database: asyncpg.Connection, hold: dict[str, Any], ago: timedelta = timedelta(seconds=1)) -> None:
    """Let a hold end: the service goes by the database's clock, which a test cannot set."""
    await database.execute(
        "UPDATE appointments SET hold_expires_at = now() - $2::interval WHERE id = $1 AND status = 'HELD'",
        UUID(hold["id"]),
        ago,
    )
