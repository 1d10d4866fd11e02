from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import msgspec
import pytest

from tests.auth.people import People
from tests.support.canary import new_email


async def test_only_the_patient_and_admins_see_a_patient(client: httpx.AsyncClient, people: People) -> None:
    patient, other = await people.patient(), await people.patient()
    doctor, admin = await people.doctor(), await people.admin()
    path = f"/api/patients/{patient.id}"
    assert (await client.get(path)).status_code == 401
    assert (await client.get(path, headers=doctor.headers)).status_code == 403
    assert (await client.get(path, headers=other.headers)).status_code == 404
    for person in (patient, admin):
        answer = await client.get(path, headers=person.headers)
        assert (answer.status_code, answer.json()) == (200, patient.user)


async def test_only_the_patient_and_admins_change_a_patient(client: httpx.AsyncClient, people: People) -> None:
    patient, other = await people.patient(), await people.patient()
    doctor, admin = await people.doctor(), await people.admin()
    statuses = [
        (await client.patch(f"/api/patients/{patient.id}", json={"fullname": "New"}, headers=headers)).status_code
        for headers in ({}, doctor.headers, other.headers, patient.headers, admin.headers)
    ]
    assert statuses == [401, 403, 404, 200, 200]


async def test_an_update_changes_only_the_given_fields_of_a_patient(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient(phone="+4930123456")
    path = f"/api/patients/{patient.id}"
    changed = (await client.patch(path, json={"phone": None, "locale": "de"}, headers=patient.headers)).json()
    assert changed == {**patient.user, "phone": None, "locale": "de", "updatedAt": changed["updatedAt"]}
    unchanged = (await client.patch(path, json={"locale": "de"}, headers=patient.headers)).json()
    assert unchanged == changed
    assert (await client.patch(path, json={}, headers=patient.headers)).json() == changed


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"email": "no address"}, "email"),
        ({"role": "ADMIN"}, "role"),
        ({"speciality": "Surgery"}, "speciality"),
        ({"fullname": None}, "fullname"),
        ({"phone": "123"}, "phone"),
        ([], ""),
    ],
)
async def test_an_invalid_update_is_400(client: httpx.AsyncClient, people: People, change: Any, path: str) -> None:
    patient = await people.patient()
    answer = await client.patch(f"/api/patients/{patient.id}", json=change, headers=patient.headers)
    assert answer.status_code == 400
    assert [error["path"] for error in answer.json()["errors"]] == [path]


async def test_doctors_and_admins_are_not_found_among_patients(client: httpx.AsyncClient, people: People) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    for id in (doctor.id, admin.id, str(uuid4()), "not-an-id"):
        assert (await client.get(f"/api/patients/{id}", headers=admin.headers)).status_code == 404
        assert (await client.patch(f"/api/patients/{id}", json={}, headers=admin.headers)).status_code == 404


async def test_admins_list_patients_the_newest_first(client: httpx.AsyncClient, people: People) -> None:
    admin, name = await people.admin(), uuid4().hex
    patients = [await people.patient(fullname=f"Bo {name}") for _ in range(3)]
    await people.doctor(fullname=f"Ada {name}")
    found, cursor = [], ""
    for _ in range(2):
        query = {"q": name.upper(), "limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/api/patients", params=query, headers=admin.headers)).json()
        found += page["items"]
        cursor = page["nextCursor"]
    assert found == [patient.user for patient in reversed(patients)]
    assert cursor is None


async def test_admins_find_a_patient_by_address_and_status(client: httpx.AsyncClient, people: People) -> None:
    admin, patient = await people.admin(), await people.patient()

    async def find(**query: str) -> list[str]:
        answer = await client.get("/api/patients", params=query, headers=admin.headers)
        assert answer.status_code == 200
        return [item["id"] for item in answer.json()["items"]]

    assert await find(email=patient.email.upper()) == [patient.id]
    assert await find(email=patient.email, status="ACTIVE") == [patient.id]
    assert await find(email=patient.email, status="SUSPENDED") == []
    assert await find(email=new_email()) == []


@pytest.mark.parametrize(
    "query", [{"status": "HAPPY"}, {"cursor": "x"}, {"limit": "0"}, {"q": ""}, {"email": "e" * 255}]
)
async def test_an_invalid_query_is_400(client: httpx.AsyncClient, people: People, query: dict[str, str]) -> None:
    answer = await client.get("/api/patients", params=query, headers=(await people.admin()).headers)
    assert answer.status_code == 400


async def test_only_admins_list_patients(client: httpx.AsyncClient, people: People) -> None:
    patient, doctor = await people.patient(), await people.doctor()
    assert (await client.get("/api/patients")).status_code == 401
    for person in (patient, doctor):
        assert (await client.get("/api/patients", headers=person.headers)).status_code == 403


@pytest.mark.parametrize(
    ("change", "code"), [("status = 'SUSPENDED'", "account_suspended"), ("role = 'PATIENT'", "forbidden")]
)
async def test_a_former_admin_with_a_valid_token_changes_nothing(
    client: httpx.AsyncClient, people: People, owner_url: str, change: str, code: str
) -> None:
    admin, patient, doctor = await people.new_admin(), await people.patient(), await people.pending_doctor()
    owner = await asyncpg.connect(owner_url)
    await owner.execute(f"UPDATE users SET {change} WHERE id = $1", admin.id)
    await owner.close()
    for method, path in (
        ("GET", "/api/patients"),
        ("PATCH", f"/api/patients/{patient.id}"),
        ("PATCH", f"/api/doctors/{doctor.id}"),
        ("POST", f"/api/doctors/{doctor.id}/approve"),
        ("POST", f"/api/doctors/{doctor.id}/suspend"),
        ("POST", f"/api/doctors/{doctor.id}/suspend?onConflict=cancel"),
    ):
        body = {"fullname": "New"} if method == "PATCH" else None
        answer = await client.request(method, path, headers=admin.headers, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, code), path
    assert (await client.get("/api/auth", headers=doctor.headers)).json() == doctor.user


async def test_an_admin_finds_a_patient_without_accents(client: httpx.AsyncClient, people: People) -> None:
    family = f"Ñandú{uuid4().hex}"
    patient, admin = await people.patient(fullname=family), await people.admin()
    for q in (family, family.lower().replace("ñ", "n").replace("ú", "u"), f" {family.upper()} "):
        answer = await client.get("/api/patients", params={"q": q}, headers=admin.headers)
        assert [item["id"] for item in answer.json()["items"]] == [patient.id]


async def test_a_time_zone_is_null_until_it_is_chosen(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient, admin = await people.patient(), await people.admin()
    path = f"/api/patients/{patient.id}"

    async def shown() -> list[object]:
        one = (await client.get(path, headers=patient.headers)).json()
        own = (await client.get("/api/auth", headers=patient.headers)).json()
        query = {"email": patient.email}
        (listed,) = (await client.get("/api/patients", params=query, headers=admin.headers)).json()["items"]
        return [body["timeZone"] for body in (one, own, listed)]

    async def told() -> tuple[str, bool]:
        payload = await owner.fetchval(
            "SELECT payload FROM outbox WHERE aggregateid = $1 AND aggregatetype = 'user' AND type LIKE 'User%'"
            " ORDER BY version DESC LIMIT 1",
            patient.id,
        )
        user = msgspec.json.decode(payload)["user"]
        return user["timeZone"], user["timeZoneChosen"]

    assert (await shown(), await told()) == ([None] * 3, ("UTC", False))
    for zone in ("Europe/Paris", "UTC"):
        await client.patch(path, json={"timeZone": zone}, headers=patient.headers)
        assert (await shown(), await told()) == ([zone] * 3, (zone, True))
    await client.patch(path, json={"timeZone": None}, headers=patient.headers)
    assert (await shown(), await told()) == ([None] * 3, ("UTC", False))


async def test_a_doctor_always_has_a_time_zone(client: httpx.AsyncClient, people: People) -> None:
    doctor = await people.pending_doctor()
    answer = await client.patch(f"/api/doctors/{doctor.id}", json={"timeZone": None}, headers=doctor.headers)
    assert [error["path"] for error in answer.json()["errors"]] == ["timeZone"]
