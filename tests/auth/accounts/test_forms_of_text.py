"""The same letters are the same name, address and password, whichever form a keyboard sends them in."""

import asyncpg
import httpx
import pytest

from services.auth.users.passwords import _HASHER, prepared
from tests.auth.people import People, patient_form
from tests.auth.requests import login_status
from tests.support.canary import new_email

NFC, NFD = "\u00e9", "e\u0301"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (f"Ren{NFD} Roy", f"Ren{NFC} Roy"),
        ("  Ada \u00a0  Brandt ", "Ada Brandt"),
        ("\u200bAda\ufeff", "Ada"),
        ("\u05d3\u05d5\u05d3 \u05db\u05d4\u05df", "\u05d3\u05d5\u05d3 \u05db\u05d4\u05df"),
        ("\u0646\u0627\u0645\u200c\u0647\u0627", "\u0646\u0627\u0645\u200c\u0647\u0627"),
    ],
)
async def test_a_name_is_stored_in_one_form(client: httpx.AsyncClient, given: str, stored: str) -> None:
    answer = await client.post("/api/patients/signup", json=patient_form(fullname=given))
    assert (answer.status_code, answer.json()["fullname"]) == (201, stored)


async def test_a_changed_name_is_stored_in_one_form(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    body = {"fullname": f"  Ren{NFD}  Roy "}
    answer = await client.patch(f"/api/patients/{patient.id}", json=body, headers=patient.headers)
    assert answer.json()["fullname"] == f"Ren{NFC} Roy"


@pytest.mark.parametrize(
    "forms",
    [
        (f"ren{NFD}.{{}}@example.com", f"ren{NFC}.{{}}@example.com"),
        ("{}@xn--mnchen-3ya.example", "{}@m\u00fcnchen.example"),
        ("{}@mu\u0308nchen.example", "{}@M\u00dcNCHEN.example"),
    ],
)
async def test_an_address_has_one_account_whatever_its_form(client: httpx.AsyncClient, forms: tuple[str, str]) -> None:
    name = new_email().partition("@")[0]
    given, other = (form.format(name) for form in forms)
    first = await client.post("/api/patients/signup", json=patient_form(email=given))
    assert (first.status_code, first.json()["email"]) == (201, other.lower())
    second = await client.post("/api/patients/signup", json=patient_form(email=other))
    assert (second.status_code, second.json()["code"]) == (409, "email_taken")
    assert await login_status(client, given) == await login_status(client, other) == 200


@pytest.mark.parametrize(
    ("chosen", "typed"),
    [
        (f"caf{NFD} horse", f"caf{NFC} horse"),
        (f"caf{NFC} horse", f"caf{NFD} horse"),
        ("correct\u00a0horse", "correct horse"),
        ("\uff43orrect\u3000horse", "correct horse"),
    ],
)
async def test_a_password_fits_in_each_form(client: httpx.AsyncClient, chosen: str, typed: str) -> None:
    form = patient_form(password=chosen)
    assert (await client.post("/api/patients/signup", json=form)).status_code == 201
    assert await login_status(client, form["email"], typed) == 200
    assert await login_status(client, form["email"], chosen) == 200
    assert await login_status(client, form["email"], f"{typed} ") == 401


async def test_a_hash_of_a_password_as_it_was_typed_still_fits_and_is_renewed(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient, typed = await people.patient(), f"caf{NFD} horse"
    old = _HASHER.hash(typed)
    await owner.execute("UPDATE users SET password_hash = $2 WHERE id = $1::uuid", patient.id, old)
    assert await login_status(client, patient.email, typed) == 200
    new = await owner.fetchval("SELECT password_hash FROM users WHERE id = $1::uuid", patient.id)
    assert new != old
    assert _HASHER.verify(new, prepared(typed))
    assert await login_status(client, patient.email, f"caf{NFC} horse") == 200


async def test_an_account_of_an_address_that_sign_up_refuses_today_still_signs_in(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient, name = await people.patient(), new_email().partition("@")[0]
    await owner.execute("UPDATE users SET email = $2 WHERE id = $1::uuid", patient.id, f"{name}..b@example.com")
    assert await login_status(client, f"{name}..B@example.com") == 200


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("ca-ES-valencia", "ca-ES-valencia"),
        ("en-US-u-hc-h12", "en-US-u-hc-h12"),
        ("DE-at", "de-AT"),
        ("zh-hant-tw", "zh-Hant-TW"),
    ],
)
async def test_a_locale_is_any_language_tag(client: httpx.AsyncClient, given: str, stored: str) -> None:
    answer = await client.post("/api/patients/signup", json=patient_form(locale=given))
    assert (answer.status_code, answer.json()["locale"]) == (201, stored)
