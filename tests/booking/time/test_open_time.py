"""How much upcoming time a patient may occupy: with one doctor, in all, and before the e-mail address is verified."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from services.booking.app import create
from services.contracts.enums import Role
from services.contracts.events import UserRegistered, UserUpdated
from services.standalone.databases import DatabaseUrls
from tests.booking.bus import Bus
from tests.booking.clinic import (
    Clinic,
    Person,
    assert_refused,
    book,
    change,
    free_time,
    request_for,
    settings_of,
    starts_in_the_past,
    wire,
)
from tests.support.auth_stub import AuthStub
from tests.support.running import client_of
from tests.support.waiting import without_hang

HOUR = timedelta(hours=1)
LIMITS = {
    "open_appointments_per_patient": 6,
    "open_hours_per_patient": 8,
    "open_appointments_per_doctor": 4,
    "open_hours_per_doctor": 5,
    "unverified_open_appointments": 2,
    "unverified_open_hours": 3,
}


@pytest.fixture
async def limited(booking_database: DatabaseUrls, redis_url: str, auth: AuthStub) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings_of(booking_database.application, redis_url, auth)
    async with client_of(create(replace(settings, **LIMITS))) as client:
        yield client


async def asked(client: httpx.AsyncClient, patient: Person, doctor: Person, minutes: int = 30) -> httpx.Response:
    """Repeat a request that had to wait too long for the others, as a client does."""
    body, headers = request_for(doctor, durationMinutes=minutes), {"Idempotency-Key": str(uuid4()), **patient.headers}
    async with without_hang():
        while (answer := await client.post("/api/appointments", json=body, headers=headers)).status_code == 503:
            pass
    return answer


async def test_an_unverified_account_cannot_take_a_calendar(
    limited: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    """Sixty requests for eight hours each would be 480 hours."""
    doctor, patient = clinic.doctor(), clinic.person(Role.PATIENT, verified=False)
    for _ in range(6):
        for answer in await asyncio.gather(*(asked(limited, patient, doctor, 480) for _ in range(10))):
            assert_refused(answer, 409, "too_many_open")
    answers = await asyncio.gather(*(asked(limited, patient, doctor, 60) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 8
    count = "SELECT count(*) FROM appointments WHERE patient_id = $1"
    assert await database.fetchval(count, patient.id) == 2


async def test_the_refusal_says_what_the_limit_is(limited: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, verified, unverified = clinic.doctor(), clinic.patient(), clinic.person(Role.PATIENT, verified=False)
    problem = assert_refused(await asked(limited, unverified, doctor, 240), 409, "too_many_open")
    assert problem["detail"].startswith("At most 3 upcoming hours until the e-mail address is verified. ")
    problem = assert_refused(await asked(limited, verified, doctor, 360), 409, "too_many_open")
    assert problem["detail"].startswith("At most 5 upcoming hours with one doctor. ")


async def test_a_verified_patient_holds_more_but_not_all_of_a_doctor(
    limited: httpx.AsyncClient, clinic: Clinic
) -> None:
    patient, doctors = clinic.patient(), [clinic.doctor() for _ in range(3)]
    for _ in range(4):
        assert (await asked(limited, patient, doctors[0])).status_code == 201
    assert_refused(await asked(limited, patient, doctors[0]), 409, "too_many_open")
    for doctor in doctors[1:]:
        assert (await asked(limited, patient, doctor)).status_code == 201
    assert_refused(await asked(limited, patient, doctors[1]), 409, "too_many_open")


async def test_hours_count_as_appointments_do(limited: httpx.AsyncClient, clinic: Clinic) -> None:
    patient, doctors = clinic.patient(), [clinic.doctor() for _ in range(2)]
    for doctor in doctors:
        assert (await asked(limited, patient, doctor, 240)).status_code == 201
    problem = assert_refused(await asked(limited, patient, clinic.doctor()), 409, "too_many_open")
    assert problem["detail"].startswith("At most 8 upcoming hours. ")


async def test_what_ends_or_is_cancelled_makes_room(
    limited: httpx.AsyncClient, clinic: Clinic, database: asyncpg.Connection
) -> None:
    doctor, patient = clinic.doctor(), clinic.person(Role.PATIENT, verified=False)
    first, second = [await book(limited, patient, doctor) for _ in range(2)]
    assert_refused(await asked(limited, patient, doctor), 409, "too_many_open")
    assert (await change(limited, patient, first, status="CANCELLED")).status_code == 200
    await book(limited, patient, doctor)
    await starts_in_the_past(database, second, HOUR)
    await book(limited, patient, doctor)


async def test_staff_book_as_much_as_they_need(limited: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.person(Role.PATIENT, verified=False)
    for by in (doctor, clinic.admin()):
        for _ in range(3):
            await book(limited, by, doctor, patientId=str(patient.id), durationMinutes=480)


async def test_an_appointment_does_not_grow_past_the_limit(limited: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.person(Role.PATIENT, verified=False)
    appointment = await book(limited, patient, doctor)
    assert_refused(await change(limited, patient, appointment, durationMinutes=480), 409, "too_many_open")
    for update in ({"durationMinutes": 180}, {"dateTime": wire(free_time())}):
        assert (await change(limited, patient, appointment, **update)).status_code == 200
    assert (await change(limited, doctor, appointment, durationMinutes=480)).status_code == 200
    for update in ({"dateTime": wire(free_time())}, {"durationMinutes": 470}):
        assert (await change(limited, patient, appointment, **update)).status_code == 200


async def test_a_stored_answer_is_returned_at_the_limit(limited: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.person(Role.PATIENT, verified=False)
    body, headers = request_for(doctor, durationMinutes=180), patient.headers | {"Idempotency-Key": uuid4().hex}
    for _ in range(2):
        answer = await limited.post("/api/appointments", json=body, headers=headers)
        assert answer.status_code == 201, answer.text


async def test_an_account_holds_more_once_its_address_is_verified(
    limited: httpx.AsyncClient, clinic: Clinic, bus: Bus
) -> None:
    doctor, patient = clinic.doctor(), clinic.person(Role.PATIENT, verified=False)
    assert_refused(await asked(limited, patient, doctor, 240), 409, "too_many_open")
    await bus.tell(UserUpdated(user=replace(patient.state, email_verified=True, version=2)))
    assert (await asked(limited, patient, doctor, 240)).status_code == 201


async def test_a_row_from_before_the_projection_had_it_is_completed_by_an_event_of_its_version(
    limited: httpx.AsyncClient, clinic: Clinic, bus: Bus, database: asyncpg.Connection
) -> None:
    """Until then the account counts as verified: it is older than the limit."""
    doctor, patient = clinic.doctor(), clinic.person(Role.PATIENT, verified=False)
    await bus.tell(UserRegistered(user=patient.state))
    await database.execute("UPDATE users SET email_verified = NULL WHERE id = $1", patient.id)
    assert (await asked(limited, patient, doctor, 240)).status_code == 201
    await bus.tell(UserRegistered(user=patient.state))
    assert_refused(await asked(limited, patient, doctor), 409, "too_many_open")


async def test_no_limit_is_no_limit(client: httpx.AsyncClient, clinic: Clinic) -> None:
    """The other tests' service has none."""
    doctor, patient, at = clinic.doctor(), clinic.person(Role.PATIENT, verified=False), free_time()
    for number in range(4):
        await book(client, patient, doctor, at + number * 8 * HOUR, durationMinutes=480)
