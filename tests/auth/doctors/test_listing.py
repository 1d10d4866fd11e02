"""The public list of doctors: order, pages, filters and search."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.kit.http.paging import encode_cursor
from tests.auth.people import People, Person

ANONYMOUS: dict[str, str] = {}


async def _all_pages(
    client: httpx.AsyncClient, limit: int, *, headers: dict[str, str] = ANONYMOUS, **query: Any
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
    """A speciality of these tests alone, to tell their doctors from those of other tests."""
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
async def test_pages_continue_the_sort_order(
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


async def test_the_search_matches_part_of_the_speciality(
    client: httpx.AsyncClient, doctors: list[Person], speciality: str
) -> None:
    found = await _all_pages(client, 100, q=speciality[3:].upper())
    assert {item["id"] for item in found} == {doctor.id for doctor in doctors}
    assert await _all_pages(client, 100, speciality=speciality[:-1]) == []
    # No match spans the end of the name and the start of the speciality.
    assert await _all_pages(client, 100, q=f"Adams{speciality}") == []


async def test_the_list_never_has_contact_data(
    client: httpx.AsyncClient, people: People, doctors: list[Person], speciality: str
) -> None:
    for headers in (ANONYMOUS, doctors[0].headers, (await people.admin()).headers):
        answer = await client.get("/api/doctors", params={"speciality": speciality}, headers=headers)
        assert len(answer.json()["items"]) == 5
        assert not {"email", "phone"} & {name for item in answer.json()["items"] for name in item}


async def test_only_approved_doctors_are_listed(client: httpx.AsyncClient, people: People) -> None:
    speciality = uuid4().hex
    await people.pending_doctor(speciality=speciality)
    suspended, listed = await people.doctor(speciality=speciality), await people.doctor(speciality=speciality)
    await client.post(f"/api/doctors/{suspended.id}/suspend", headers=(await people.admin()).headers)
    assert [item["id"] for item in await _all_pages(client, 10, speciality=speciality)] == [listed.id]


async def test_a_page_can_end_with_a_name_of_two_hundred_wide_characters(
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
async def test_an_invalid_query_is_400(client: httpx.AsyncClient, query: dict[str, Any]) -> None:
    answer = await client.get("/api/doctors", params=query)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


async def test_admins_list_doctors_by_status(client: httpx.AsyncClient, people: People) -> None:
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


async def test_only_admins_filter_by_status(client: httpx.AsyncClient, people: People) -> None:
    doctor, patient, admin = await people.doctor(), await people.patient(), await people.admin()
    for headers, status in ((ANONYMOUS, 401), (doctor.headers, 403), (patient.headers, 403), (admin.headers, 200)):
        for wanted in ("ACTIVE", "PENDING"):
            answer = await client.get("/api/doctors", params={"status": wanted}, headers=headers)
            assert answer.status_code == status
    assert (await client.get("/api/doctors?status=NEW", headers=admin.headers)).status_code == 400


@pytest.fixture(scope="module")
async def accented(client: httpx.AsyncClient, people: People, speciality: str) -> list[str]:
    """Names in the order of a list, each of a doctor."""
    names = ["Adam", "Álvarez", "alvarez b", "Łukasz", "Özil", "Straße", "  Young ", "Zimmermann"]
    for name in reversed(names):
        await people.doctor(speciality=f"Kardiologié {speciality}", fullname=name)
    return [name.strip() for name in names]


async def test_accents_and_blanks_do_not_change_the_order(
    client: httpx.AsyncClient, accented: list[str], speciality: str
) -> None:
    found = await _all_pages(client, 3, speciality=f" kardiologie {speciality}  ")
    assert [item["fullname"] for item in found] == accented


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("alvarez", {"Álvarez", "alvarez b"}),
        ("ÁLVAREZ ", {"Álvarez", "alvarez b"}),
        ("A\u0301lvarez", {"Álvarez", "alvarez b"}),
        ("  alvarez \u00a0 b ", {"alvarez b"}),
        ("lukasz", {"Łukasz"}),
        ("strasse", {"Straße"}),
        ("ozil", {"Özil"}),
    ],
)
async def test_a_search_finds_a_name_without_its_accents(
    client: httpx.AsyncClient, accented: list[str], speciality: str, q: str, expected: set[str]
) -> None:
    found = await _all_pages(client, 100, q=q, speciality=f"KARDIOLOGIE {speciality}")
    assert {item["fullname"] for item in found} == expected


async def test_a_search_for_blanks_is_none(client: httpx.AsyncClient, accented: list[str], speciality: str) -> None:
    found = await _all_pages(client, 100, q="  ", speciality=f"Kardiologie {speciality}")
    assert len(found) == len(accented)
