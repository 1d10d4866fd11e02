"""The fields of an appointment type: what makes sense, and what is refused with its path."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.booking.appointment_types.offers import add, alter, offer
from tests.booking.clinic import Clinic, assert_refused, book, free_time, post, request_for


async def test_the_example_in_the_documentation_can_be_sent(client: httpx.AsyncClient, clinic: Clinic) -> None:
    page = (Path(__file__).parents[3] / "docs/booking.md").read_text()
    (example,) = (
        found for found in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if "bufferBeforeMinutes" in found
    )
    fields = json.loads(example)
    doctor, at = clinic.doctor(), free_time().replace(hour=10)
    created = await offer(client, doctor, **fields)
    assert {name: created[name] for name in fields} == fields
    plain = await offer(client, doctor, durationMinutes=5)
    booked = {"patientId": str(clinic.patient().id), "typeId": created["id"]}
    await book(client, doctor, doctor, at, **booked)
    for minutes, status in ((-9, 409), (54, 409), (-10, 201), (55, 201)):
        body = request_for(doctor, at + timedelta(minutes=minutes), typeId=plain["id"])
        assert (await post(client, clinic.patient(), body)).status_code == status


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"name": " "}, "name"),
        ({"durationMinutes": 4}, "durationMinutes"),
        ({"durationMinutes": 481}, "durationMinutes"),
        ({"bufferBeforeMinutes": -1}, "bufferBeforeMinutes"),
        ({"bufferAfterMinutes": 241}, "bufferAfterMinutes"),
        ({"price": 99.5}, "price"),
        ({"price": "-1.00"}, "price"),
        ({"price": "1.005"}, "price"),
        ({"mode": "FAX"}, "mode"),
        ({"bookableBy": "FRIENDS"}, "bookableBy"),
        ({"description": "x" * 2001}, "description"),
        ({"position": -1}, "position"),
        ({"joinUrlTemplate": "https://meet.example.com/{room}"}, "joinUrlTemplate"),
        ({"active": None}, "active"),
        ({"version": 1}, "version"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_path(
    client: httpx.AsyncClient, clinic: Clinic, wrong: dict[str, Any], path: str
) -> None:
    doctor = clinic.doctor()
    assert_refused(await add(client, doctor, doctor, **wrong), 400, "invalid_request", path)
    created = await offer(client, doctor)
    assert_refused(await alter(client, doctor, doctor, created, **wrong), 400, "invalid_request", path)


@pytest.mark.parametrize(
    "template",
    [
        "http://meet.example.com/{room}",
        "https://meet.example.com/",
        "https://meet.example.com/{room}/{room}",
        "https://meet.example.com/{room}/{name}",
        "https://{room}.example.com/",
        "https://ada:secret@meet.example.com/{room}",
        "https:///{room}",
        "https://[meet/{room}",
        "https://meet.example.com:x/{room}",
        "https://meet.example.com/ {room}",
        "javascript:alert({room})",
        "https://meet.example.com/" + "x" * 500 + "{room}",
    ],
)
async def test_a_template_of_links_is_an_https_address_with_a_room(
    client: httpx.AsyncClient, clinic: Clinic, template: str
) -> None:
    doctor = clinic.doctor()
    answer = await add(client, doctor, doctor, mode="VIDEO", joinUrlTemplate=template)
    assert_refused(answer, 400, "invalid_request", "joinUrlTemplate")


async def test_a_template_of_links_goes_when_the_mode_does(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    created = await offer(client, doctor, mode="VIDEO", joinUrlTemplate="https://meet.example.com/r#{room}")
    answer = await alter(client, doctor, doctor, created, mode="PHONE")
    assert_refused(answer, 400, "invalid_request", "joinUrlTemplate")
    assert (await alter(client, doctor, doctor, created, mode="PHONE", joinUrlTemplate=None)).status_code == 200
