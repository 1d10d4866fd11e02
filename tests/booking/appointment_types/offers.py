"""Appointment types of a doctor, and requests about them."""

from typing import Any

import httpx

from tests.booking.clinic import Person

EVERY_DAY = [{"weekday": weekday, "start": "09:00", "end": "12:00"} for weekday in range(1, 8)]


async def open_hours(client: httpx.AsyncClient, doctor: Person, **update: Any) -> None:
    body = {"timeZone": "UTC", "weekly": [{"hours": EVERY_DAY}], **update}
    answer = await client.put(f"/api/availability/{doctor.id}", json=body, headers=doctor.headers)
    assert answer.status_code == 200, answer.text


def types_path(doctor: Person, one: dict[str, Any] | None = None) -> str:
    return f"/api/availability/{doctor.id}/types" + (f"/{one['id']}" if one else "")


async def add(client: httpx.AsyncClient, by: Person, doctor: Person, **fields: Any) -> httpx.Response:
    body = {"name": "Consultation", "durationMinutes": 30, **fields}
    return await client.post(types_path(doctor), json=body, headers=by.headers)


async def offer(client: httpx.AsyncClient, doctor: Person, **fields: Any) -> dict[str, Any]:
    """Add a type to the doctor's own."""
    answer = await add(client, doctor, doctor, **fields)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def alter(
    client: httpx.AsyncClient,
    by: Person,
    doctor: Person,
    one: dict[str, Any],
    *,
    if_match: str | None = None,
    **new: Any,
) -> httpx.Response:
    headers = by.headers | ({"If-Match": if_match} if if_match else {})
    return await client.patch(types_path(doctor, one), json=new, headers=headers)


async def withdraw(
    client: httpx.AsyncClient, by: Person, doctor: Person, one: dict[str, Any], *, if_match: str | None = None
) -> httpx.Response:
    headers = by.headers | ({"If-Match": if_match} if if_match else {})
    return await client.delete(types_path(doctor, one), headers=headers)


async def listed(client: httpx.AsyncClient, doctor: Person, by: Person | None = None, **query: Any) -> list[Any]:
    answer = await client.get(types_path(doctor), params=query, headers=by.headers if by else {})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def slots(client: httpx.AsyncClient, doctor: Person, **query: Any) -> list[str]:
    answer = await client.get("/api/slots", params={"doctorId": str(doctor.id), "limit": 100, **query})
    assert answer.status_code == 200, answer.text
    return [slot["startsAt"] for slot in answer.json()["items"]]
