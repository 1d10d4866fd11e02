"""Who sees which part of a doctor's account."""

from uuid import uuid4

import httpx
import pytest

from tests.auth.people import People
from tests.support.canary import called


async def test_only_the_doctor_and_admins_see_contact_data(client: httpx.AsyncClient, people: People) -> None:
    doctor, other = await people.doctor(phone="+4930123456"), await people.doctor()
    patient, admin = await people.patient(), await people.admin()
    for person in (doctor, admin):
        seen = (await client.get(f"/api/doctors/{doctor.id}", headers=person.headers)).json()
        assert (seen["email"], seen["phone"]) == (doctor.email, "+4930123456")
    for person in (patient, other):
        answer = await client.get(f"/api/doctors/{doctor.id}", headers=person.headers)
        assert answer.status_code == 200
        assert answer.json()["fullname"] == called("Ada")
        assert not {"email", "phone"} & answer.json().keys()
    assert (await client.get(f"/api/doctors/{doctor.id}")).status_code == 401


@pytest.mark.parametrize("state", ["pending", "suspended"])
async def test_only_the_doctor_and_admins_see_a_doctor_who_is_not_approved(
    client: httpx.AsyncClient, people: People, state: str
) -> None:
    doctor = await (people.pending_doctor() if state == "pending" else people.doctor())
    patient, other, admin = await people.patient(), await people.doctor(), await people.admin()
    if state == "suspended":
        await client.post(f"/api/doctors/{doctor.id}/suspend", headers=admin.headers)
    path = f"/api/doctors/{doctor.id}"
    statuses = {
        name: (await client.get(path, headers=person.headers)).status_code
        for name, person in {"patient": patient, "other": other, "admin": admin, "self": doctor}.items()
    }
    assert statuses == {"patient": 404, "other": 404, "admin": 200, "self": 200}
    assert (await client.patch(path, json={}, headers=other.headers)).status_code == 404


async def test_no_other_account_is_found_among_doctors(client: httpx.AsyncClient, people: People) -> None:
    patient, admin = await people.patient(), await people.admin()
    for id in (patient.id, admin.id, str(uuid4()), "not-an-id"):
        for person in (patient, admin):
            answer = await client.get(f"/api/doctors/{id}", headers=person.headers)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
