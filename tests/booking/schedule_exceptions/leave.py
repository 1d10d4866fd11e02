"""Requests about leave and extra hours."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx

from tests.booking.clinic import Person, wire

HALF_HOUR, HOUR, DAY = timedelta(minutes=30), timedelta(hours=1), timedelta(days=1)


def upcoming(month: int, day: int) -> date:
    """Return the next such date that is some days ahead."""
    earliest = datetime.now(UTC).date() + 3 * DAY
    this_year = date(earliest.year, month, day)
    return this_year if this_year >= earliest else date(earliest.year + 1, month, day)


def times(start: datetime, end: datetime) -> dict[str, str]:
    """Return the fields of a time for a doctor in UTC."""
    return {"from": f"{start:%Y-%m-%d}", "start": f"{start:%H:%M}", "until": f"{end:%Y-%m-%d}", "end": f"{end:%H:%M}"}


def off(start: datetime, end: datetime, **more: Any) -> dict[str, Any]:
    return {"kind": "OFF", **times(start, end), **more}


def extra(start: datetime, end: datetime, **more: Any) -> dict[str, Any]:
    return {"kind": "EXTRA", **times(start, end), **more}


async def add(
    client: httpx.AsyncClient,
    by: Person,
    doctor: Person,
    body: dict[str, Any],
    *,
    on_conflict: str | None = None,
    key: str | None = None,
) -> httpx.Response:
    headers = by.headers | ({"Idempotency-Key": key} if key else {})
    query = {"onConflict": on_conflict} if on_conflict else {}
    return await client.post(f"/api/availability/{doctor.id}/exceptions", json=body, headers=headers, params=query)


async def added(
    client: httpx.AsyncClient, by: Person, doctor: Person, body: dict[str, Any], **more: Any
) -> dict[str, Any]:
    answer = await add(client, by, doctor, body, **more)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def remove(
    client: httpx.AsyncClient, by: Person, exception: dict[str, Any], *, on_conflict: str | None = None
) -> httpx.Response:
    path = f"/api/availability/{exception['doctorId']}/exceptions/{exception['id']}"
    query = {"onConflict": on_conflict} if on_conflict else {}
    return await client.delete(path, headers=by.headers, params=query)


async def listed(
    client: httpx.AsyncClient, doctor: Person, by: Person | None = None, **query: str
) -> list[dict[str, Any]]:
    path = f"/api/availability/{doctor.id}/exceptions"
    answer = await client.get(path, params=query, headers=by.headers if by else {})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def slots(client: httpx.AsyncClient, doctor: Person, start: datetime, end: datetime) -> list[str]:
    query = {"doctorId": str(doctor.id), "from": wire(start), "to": wire(end), "limit": "100"}
    answer = await client.get("/api/slots", params=query)
    assert answer.status_code == 200, answer.text
    return [slot["startsAt"] for slot in answer.json()["items"]]
