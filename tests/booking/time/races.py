"""Send requests at once, and sum up their answers."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any

import asyncpg
import httpx

from tests.booking.clinic import (
    Person,
    book,
)
from tests.support.process import Served


async def at_once(*requests: Awaitable[httpx.Response]) -> list[httpx.Response]:
    answers = await asyncio.gather(*requests)
    unexpected = [answer.text for answer in answers if answer.status_code >= 500]
    assert not unexpected, unexpected
    return answers


def posts(
    replicas: list[Served], bodies: list[tuple[Person, dict[str, Any]]], **headers: str
) -> list[Awaitable[httpx.Response]]:
    """Make requests to the replicas in turn."""
    return [
        replicas[number % 2].client.post("/api/appointments", json=body, headers={**person.headers, **headers})
        for number, (person, body) in enumerate(bodies)
    ]


def codes(answers: list[httpx.Response]) -> Counter[str]:
    return Counter("ok" if answer.is_success else answer.json()["code"] for answer in answers)


async def warm(replicas: list[Served], doctor: Person, patients: list[Person]) -> None:
    """Put the users into the projection, so that a round measures nothing but the race for the slot."""
    for patient in patients:
        await book(replicas[0].client, patient, doctor)


async def overlaps(database: asyncpg.Connection) -> int:
    return int(
        await database.fetchval(
            """
            SELECT count(*) FROM appointments a JOIN appointments b
            ON a.id < b.id AND (a.doctor_id = b.doctor_id OR a.patient_id = b.patient_id) AND a.during && b.during
            AND a.status IN ('PENDING', 'CONFIRMED') AND b.status IN ('PENDING', 'CONFIRMED')
            AND NOT a.overbooked AND NOT b.overbooked
            """
        )
    )
