"""`If-Match`: a change is made only to the version that the client has seen."""

import httpx
import pytest

from tests.booking.clinic import (
    Clinic,
    assert_refused,
    book,
    change,
    free_time,
    get,
    wire,
)


@pytest.mark.parametrize(
    "tag", ['"1"', "*", " * ", '"7", "1"', ' "1" ', 'W/"1"', '"7",,"1"', ', "1",', 'W/"1-gzip"', '"1-br"']
)
async def test_a_change_meant_for_the_present_version_succeeds(
    client: httpx.AsyncClient, clinic: Clinic, tag: str
) -> None:
    doctor = clinic.doctor()
    appointment = await book(client, clinic.patient(), doctor)
    assert (await change(client, doctor, appointment, if_match=tag, status="CONFIRMED")).status_code == 200


@pytest.mark.parametrize("tag", ['"2"', '"0", "2"', 'W/"2"', '""', '"1-one"'])
async def test_a_change_meant_for_another_version_fails(client: httpx.AsyncClient, clinic: Clinic, tag: str) -> None:
    doctor = clinic.doctor()
    appointment = await book(client, clinic.patient(), doctor)
    for update in ({"status": "CONFIRMED"}, {"dateTime": wire(free_time())}, {"status": "PENDING"}):
        answer = await change(client, doctor, appointment, if_match=tag, **update)
        assert_refused(answer, 412, "precondition_failed")
    assert await get(client, doctor, appointment) == appointment


async def test_lines_of_a_precondition_are_one_list(client: httpx.AsyncClient, clinic: Clinic) -> None:
    doctor = clinic.doctor()
    appointment = await book(client, clinic.patient(), doctor)
    path = f"/api/appointments/{appointment['id']}"
    for lines, status in (
        (['"7"', '"1"'], 200),
        (['"2"', '"1", "9"'], 200),
        (['"7"', '"8"'], 412),
        (["*", '"2"'], 400),
    ):
        headers = [*doctor.headers.items(), *[("If-Match", line) for line in lines]]
        answer = await client.patch(path, json={"notes": str(lines)}, headers=headers)
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("tag", ["1", '"1', "'1'", '"1" "2"', "**", "W/1", ",", '"1 or so"', '*, "1"', 'w/"1"', '"1";'])
async def test_a_malformed_precondition_is_refused(client: httpx.AsyncClient, clinic: Clinic, tag: str) -> None:
    doctor = clinic.doctor()
    appointment = await book(client, clinic.patient(), doctor)
    answer = await change(client, doctor, appointment, if_match=tag, status="CONFIRMED")
    assert_refused(answer, 400, "invalid_request", "If-Match")
