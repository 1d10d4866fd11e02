"""Updates of a doctor's account."""

from typing import Any

import httpx
import pytest

from tests.auth.people import People


async def test_an_update_changes_only_the_given_fields_of_a_doctor(client: httpx.AsyncClient, people: People) -> None:
    doctor = await people.pending_doctor(phone="+4930123456")
    path = f"/api/doctors/{doctor.id}"
    changes = {"fullname": "Ada Adler", "consultationFee": "7.5", "timeZone": "Asia/Tokyo", "locale": "pt-BR"}
    changed = (await client.patch(path, json=changes, headers=doctor.headers)).json()
    expected = {**doctor.user, **changes, "consultationFee": "7.50", "updatedAt": changed["updatedAt"]}
    assert changed == expected
    assert changed["updatedAt"] > doctor.user["updatedAt"]
    cleared = {"phone": None, "speciality": None, "experience": None, "consultationFee": None}
    changed = (await client.patch(path, json=cleared, headers=doctor.headers)).json()
    assert changed == {**expected, **cleared, "updatedAt": changed["updatedAt"]}
    assert (await client.get(path, headers=doctor.headers)).json() == changed


@pytest.mark.parametrize(
    "change",
    [
        {"email": "no address"},
        {"role": "ADMIN"},
        {"status": "ACTIVE"},
        {"version": 9},
        {"password": "another password"},
        {"fullname": None},
        {"timeZone": None},
        {"timeZone": "Mars/Olympus"},
        {"locale": None},
        {"experience": "12"},
        {"consultationFee": 12},
    ],
)
async def test_an_invalid_update_is_400(client: httpx.AsyncClient, people: People, change: dict[str, Any]) -> None:
    doctor = await people.pending_doctor()
    answer = await client.patch(f"/api/doctors/{doctor.id}", json=change, headers=doctor.headers)
    assert answer.status_code == 400
    assert [error["path"] for error in answer.json()["errors"]] == list(change)
    assert (await client.get("/api/auth", headers=doctor.headers)).json() == doctor.user


async def test_only_the_doctor_and_admins_change_a_doctor(client: httpx.AsyncClient, people: People) -> None:
    doctor, other = await people.doctor(), await people.doctor()
    patient, admin = await people.patient(), await people.admin()
    statuses = [
        (await client.patch(f"/api/doctors/{doctor.id}", json={"fullname": "New"}, headers=headers)).status_code
        for headers in ({}, patient.headers, other.headers, admin.headers)
    ]
    assert statuses == [401, 403, 403, 200]


async def test_a_suspended_doctor_with_a_valid_token_changes_nothing(client: httpx.AsyncClient, people: People) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    await client.post(f"/api/doctors/{doctor.id}/suspend", headers=admin.headers)
    answer = await client.patch(f"/api/doctors/{doctor.id}", json={"fullname": "New"}, headers=doctor.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "account_suspended")
    assert (await client.get("/api/auth", headers=doctor.headers)).json()["fullname"] == doctor.user["fullname"]
