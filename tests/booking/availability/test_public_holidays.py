"""Public holidays by region, computed by a library that is loaded when the first doctor needs it."""

import subprocess
import sys
from datetime import date, timedelta
from typing import Any

import httpx
import pytest

from services.booking.availability.public_holidays import is_region, public_holidays
from tests.booking.clinic import Clinic, assert_refused, post, request_for
from tests.booking.schedule_exceptions.leave import upcoming

DAY = timedelta(days=1)
EVERY_DAY = [{"weekday": weekday, "start": "09:00", "end": "11:00"} for weekday in range(1, 8)]


@pytest.mark.parametrize(
    ("region", "day", "closed"),
    [
        ("DE-BE", date(2027, 3, 8), True),
        ("DE-HH", date(2027, 3, 8), False),
        ("DE", date(2027, 10, 3), True),
        ("US-NY", date(2027, 7, 4), True),
        ("US-NY", date(2027, 7, 5), True),  # observed, because the 4th is a Sunday
        ("US-NY", date(2027, 12, 31), True),  # the next year's first day, a Saturday
        ("US-CA", date(2027, 2, 12), False),
        ("GB-SCT", date(2027, 11, 30), True),
    ],
)
async def test_a_region_has_its_holidays(region: str, day: date, closed: bool) -> None:
    assert await is_region(region)
    assert (day in public_holidays(region, day.year)) is closed


@pytest.mark.parametrize("region", ["", "D", "XX", "DE-XX", "de-be", "UK", "DEU", "FR-Zone A", "DE-BE\n"])
async def test_no_other_name_is_a_region(region: str) -> None:
    assert not await is_region(region)
    assert public_holidays(region, 2027) == frozenset()


def test_a_process_loads_the_library_when_a_doctor_needs_it() -> None:
    program = (
        "import sys, services.booking.app; assert 'holidays' not in sys.modules;"
        "from services.booking.availability.public_holidays import public_holidays;"
        "assert public_holidays('DE', 2027); assert 'holidays' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_a_doctor_is_closed_on_a_public_holiday_unless_extra_hours_open_it(
    client: httpx.AsyncClient, clinic: Clinic
) -> None:
    doctor, patient, day = clinic.doctor(), clinic.patient(), upcoming(3, 8)
    hours: dict[str, Any] = {
        "timeZone": "Europe/Berlin",
        "slotMinutes": 60,
        "horizonDays": 400,
        "publicHolidays": "DE-BE",
        "weekly": [{"hours": EVERY_DAY}],
    }
    path = f"/api/availability/{doctor.id}"
    assert (await client.put(path, json=hours, headers=doctor.headers)).status_code == 200

    async def starts() -> list[str]:
        query = {"doctorId": str(doctor.id), "from": f"{day - DAY}T00:00:00Z", "to": f"{day + 2 * DAY}T00:00:00Z"}
        return [slot["startsAt"] for slot in (await client.get("/api/slots", params=query)).json()["items"]]

    around = [f"{day + days * DAY}T{time}:00:00Z" for days in (-1, 1) for time in ("08", "09")]
    assert await starts() == around
    body = {**request_for(doctor), "dateTime": f"{day}T08:00:00Z", "durationMinutes": 60}
    problem = assert_refused(await post(client, patient, body), 409, "outside_availability")
    assert [free["dateTime"] for free in problem["alternatives"]][:2] == around[2:]
    extra = {"kind": "EXTRA", "from": f"{day}", "start": "09:00", "end": "10:00"}
    assert (await client.post(f"{path}/exceptions", json=extra, headers=doctor.headers)).status_code == 201
    assert await starts() == [*around[:2], f"{day}T08:00:00Z", *around[2:]]
    assert (await post(client, patient, body)).status_code == 201
