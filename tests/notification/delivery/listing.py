"""Deliveries and dead letters as an admin reads them."""

from typing import Any

import httpx

from services.contracts.events import AppointmentCreated
from tests.support.waiting import eventually

DELIVERIES = "/api/notifications/deliveries"
NOBODYS = "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073"
DEAD_LETTERS = "/api/notifications/dead-letters"


async def items(client: httpx.AsyncClient, path: str, headers: dict[str, str], **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(path, params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def replay(client: httpx.AsyncClient, letter: object, headers: dict[str, str]) -> httpx.Response:
    return await client.post(f"{DEAD_LETTERS}/{letter}/replay", headers=headers)


async def undelivered(client: httpx.AsyncClient, admin: dict[str, str], booked: AppointmentCreated) -> dict[str, Any]:
    """The one delivery of that appointment that failed, when it has."""

    async def holds() -> bool:
        return bool(await failures())

    async def failures() -> list[dict[str, Any]]:
        found = await items(client, DELIVERIES, admin, appointmentId=str(booked.appointment_id))
        return [one for one in found if one["status"] == "FAILED"]

    await eventually(holds)
    (failed,) = await failures()
    return failed
