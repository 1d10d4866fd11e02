from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.kit.http.paging import encode_cursor
from tests.auth.people import People, Person
from tests.support.canary import called

NOBODY: dict[str, str] = {}


async def _all_pages(
    client: httpx.AsyncClient, limit: int, *, headers: dict[str, str] = NOBODY, **query: Any
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        answer = await client.get(
            "/api/doctors", params={**query, "limit": limit, **({"cursor": cursor} if cursor else {})}, headers=headers
        )
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["items"]
        assert len(page["items"]) <= limit
        if (cursor := page["nextCursor"]) is None:
            return found


@pytest.fixture(scope="module")
def speciality() -> str:
    """These tests' own, by which they find their doctors among everybody's."""
    return f"Speciality {uuid4().int}"


@pytest.fixture(scope="module")
async def doctors(client: httpx.AsyncClient, people: People, speciality: str) -> list[Person]:
    doctors = [
        await people.doctor(speciality=speciality, fullname=name, experience=experience, consultationFee=fee)
        for name, experience, fee in [
            ("bea Berg", 3, "80.00"),
            ("Ada Adams", 10, "120.50"),
            ("Cem Çelik", 10, "80.00"),
            ("Zoë 100%_\\ Zander", 0, "0"),
            ("Ada Adams", 40, "99999999.99"),
        ]
    ]
    for doctor, cleared in ((doctors[0], "experience"), (doctors[2], "consultationFee")):
        answer = await client.patch(f"/api/doctors/{doctor.id}", json={cleared: None}, headers=doctor.headers)
        assert answer.status_code == 200
    return doctors


@pytest.mark.parametrize(
    ("sort", "order"),
    [("name", [1, 4, 0, 2, 3]), ("-experience", [4, 1, 2, 3, 0]), ("fee", [3, 0, 1, 4, 2])],
)
@pytest.mark.parametrize("limit", [1, 2, 4, 5, 100])
async def test_every_page_continues_the_order(
    client: httpx.AsyncClient, doctors: list[Person], speciality: str, sort: str, order: list[int], limit: int
) -> None:
    found = await _all_pages(client, limit, sort=sort, speciality=speciality)
    assert [item["id"] for item in found] == [doctors[index].id for index in order]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"q": "ada"}, {1, 4}),
        ({"q": "ADA ad"}, {1, 4}),
        ({"q": "çel"}, {2}),
        ({"q": "100%_\\"}, {3}),
        ({"q": "%"}, {3}),
        ({"q": "_"}, {3}),
        ({"q": "xyz"}, set()),
        ({"minExperience": 10}, {1, 2, 4}),
        ({"minExperience": 0}, {1, 2, 3, 4}),
        ({"maxFee": "80"}, {0, 3}),
        ({"maxFee": "120.49"}, {0, 3}),
        ({"maxFee": "120.5", "minExperience": 1}, {1}),
    ],
)
async def test_filters_narrow_the_list(
    client: httpx.AsyncClient, doctors: list[Person], speciality: str, query: dict[str, Any], expected: set[int]
) -> None:
    found = await _all_pages(client, 100, speciality=speciality.upper(), **query)
    assert {item["id"] for item in found} == {doctors[index].id for index in expected}


async def test_a_search_finds_a_part_of_the_speciality(
    client: httpx.AsyncClient, doctors: list[Person], speciality: str
) -> None:
    found = await _all_pages(client, 100, q=speciality[3:].upper())
    assert {item["id"] for item in found} == {doctor.id for doctor in doctors}
    assert await _all_pages(client, 100, speciality=speciality[:-1]) == []
    # Not across the end of the name and the start of the speciality.
    assert await _all_pages(client, 100, q=f"Adams{speciality}") == []


async def test_the_list_has_no_contact_data_for_anybody(
    client: httpx.AsyncClient, people: People, doctors: list[Person], speciality: str
) -> None:
    for headers in (NOBODY, doctors[0].headers, (await people.admin()).headers):
        answer = await client.get("/api/doctors", params={"speciality": speciality}, headers=headers)
        assert len(answer.json()["items"]) == 5
        assert not {"email", "phone"} & {name for item in answer.json()["items"] for name in item}


async def test_only_approved_doctors_are_listed(client: httpx.AsyncClient, people: People) -> None:
    speciality = uuid4().hex
    await people.pending_doctor(speciality=speciality)
    suspended, listed = await people.doctor(speciality=speciality), await people.doctor(speciality=speciality)
    await client.post(f"/api/doctors/{suspended.id}/suspend", headers=(await people.admin()).headers)
    assert [item["id"] for item in await _all_pages(client, 10, speciality=speciality)] == [listed.id]


async def test_a_name_of_two_hundred_wide_characters_can_be_continued_after(
    client: httpx.AsyncClient, people: People
) -> None:
    speciality = uuid4().hex
    for _ in range(2):
        await people.doctor(speciality=speciality, fullname="𝄞" * 200)
    assert len(await _all_pages(client, 1, speciality=speciality)) == 2


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "many"},
        {"sort": "email"},
        {"sort": "name", "cursor": encode_cursor(("fee", "1.00", str(uuid4())))},
        {"sort": "fee", "cursor": encode_cursor(("fee", "NaN", str(uuid4())))},
        {"sort": "-experience", "cursor": encode_cursor(("-experience", 2**40, str(uuid4())))},
        {"cursor": "x"},
        {"cursor": encode_cursor(("name", "a\u0000", str(uuid4())))},
        {"cursor": encode_cursor(("name", "a", "no id"))},
        {"minExperience": -1},
        {"minExperience": 81},
        {"minExperience": "1.5"},
        {"maxFee": "cheap"},
        {"maxFee": "-1"},
        {"maxFee": "1e9"},
        {"q": "a" * 101},
        {"q": "a\u0000"},
        {"speciality": ""},
    ],
)
async def test_a_malformed_question_is_400(client: httpx.AsyncClient, query: dict[str, Any]) -> None:
    answer = await client.get("/api/doctors", params=query)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


async def test_contact_data_is_for_the_doctor_and_admins(client: httpx.AsyncClient, people: People) -> None:
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
async def test_a_doctor_who_is_not_admitted_is_there_for_nobody_else(
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


async def test_a_patient_or_nobody_is_not_found_among_doctors(client: httpx.AsyncClient, people: People) -> None:
    patient, admin = await people.patient(), await people.admin()
    for id in (patient.id, admin.id, str(uuid4()), "not-an-id"):
        for person in (patient, admin):
            answer = await client.get(f"/api/doctors/{id}", headers=person.headers)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_doctor_changes_what_is_given_and_nothing_else(client: httpx.AsyncClient, people: People) -> None:
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
async def test_a_change_that_breaks_a_rule_is_400(
    client: httpx.AsyncClient, people: People, change: dict[str, Any]
) -> None:
    doctor = await people.pending_doctor()
    answer = await client.patch(f"/api/doctors/{doctor.id}", json=change, headers=doctor.headers)
    assert answer.status_code == 400
    assert [error["path"] for error in answer.json()["errors"]] == list(change)
    assert (await client.get("/api/auth", headers=doctor.headers)).json() == doctor.user


async def test_admins_find_the_doctors_who_wait_for_approval(client: httpx.AsyncClient, people: People) -> None:
    speciality = f"Speciality {uuid4().int}"
    waiting = [await people.pending_doctor(speciality=speciality) for _ in range(3)]
    listed, admin = await people.doctor(speciality=speciality), await people.admin()
    suspended = await people.doctor(speciality=speciality)
    await client.post(f"/api/doctors/{suspended.id}/suspend", headers=admin.headers)
    for status, expected in (("PENDING", waiting), ("ACTIVE", [listed]), ("SUSPENDED", [suspended])):
        found = await _all_pages(client, 2, headers=admin.headers, speciality=speciality, status=status)
        assert {item["id"] for item in found} == {doctor.id for doctor in expected}
        assert {item["status"] for item in found} == {status}
        assert not {"email", "phone"} & found[0].keys()


async def test_nobody_else_asks_for_a_status(client: httpx.AsyncClient, people: People) -> None:
    doctor, patient, admin = await people.doctor(), await people.patient(), await people.admin()
    for headers, status in ((NOBODY, 401), (doctor.headers, 403), (patient.headers, 403), (admin.headers, 200)):
        for wanted in ("ACTIVE", "PENDING"):
            answer = await client.get("/api/doctors", params={"status": wanted}, headers=headers)
            assert answer.status_code == status
    assert (await client.get("/api/doctors?status=NEW", headers=admin.headers)).status_code == 400


async def test_only_the_doctor_and_admins_change_a_doctor(client: httpx.AsyncClient, people: People) -> None:
    doctor, other = await people.doctor(), await people.doctor()
    patient, admin = await people.patient(), await people.admin()
    statuses = [
        (await client.patch(f"/api/doctors/{doctor.id}", json={"fullname": "New"}, headers=headers)).status_code
        for headers in (NOBODY, patient.headers, other.headers, admin.headers)
    ]
    assert statuses == [401, 403, 403, 200]


async def test_a_suspended_doctor_changes_nothing_though_the_token_is_valid(
    client: httpx.AsyncClient, people: People
) -> None:
    doctor, admin = await people.doctor(), await people.admin()
    await client.post(f"/api/doctors/{doctor.id}/suspend", headers=admin.headers)
    answer = await client.patch(f"/api/doctors/{doctor.id}", json={"fullname": "New"}, headers=doctor.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "account_suspended")
    assert (await client.get("/api/auth", headers=doctor.headers)).json()["fullname"] == doctor.user["fullname"]
