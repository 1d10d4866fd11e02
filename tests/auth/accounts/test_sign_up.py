import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import msgspec
import pytest

from services.auth.app import create
from services.auth.settings import Settings
from tests.auth.people import doctor_form, patient_form
from tests.support.canary import new_email
from tests.support.running import client_of


async def test_a_doctor_signs_up_and_waits_for_approval(client: httpx.AsyncClient) -> None:
    form = doctor_form(phone="+4930123456")
    answer = await client.post("/api/doctors/signup", json=form)
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["location"] == f"/api/doctors/{body['id']}"
    assert UUID(body["id"]).version == 7
    del form["password"]
    assert form.items() <= body.items()
    assert (body["role"], body["status"], body["locale"]) == ("DOCTOR", "PENDING", "en")
    assert "password" not in answer.text


async def test_a_patient_signs_up_with_defaults(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/patients/signup", json=patient_form())
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/patients/{body['id']}"
    assert (body["role"], body["status"], body["timeZone"], body["locale"]) == ("PATIENT", "ACTIVE", None, "en")
    assert body["phone"] is None
    assert "speciality" not in body


async def test_doctors_are_approved_at_sign_up_where_the_setting_says_so(settings: Settings) -> None:
    automatic = msgspec.structs.replace(settings, doctor_approval="automatic")
    async with client_of(create(automatic)) as client:
        doctor = (await client.post("/api/doctors/signup", json=doctor_form())).json()
    assert doctor["status"] == "ACTIVE"


@pytest.mark.parametrize("kinds", [("patients", "patients"), ("patients", "doctors"), ("doctors", "patients")])
async def test_an_email_address_has_one_account_whatever_its_case(
    client: httpx.AsyncClient, kinds: tuple[str, str]
) -> None:
    forms = {"patients": patient_form, "doctors": doctor_form}
    email = new_email()
    first = await client.post(f"/api/{kinds[0]}/signup", json=forms[kinds[0]](email=email.capitalize()))
    assert first.json()["email"] == email
    second = await client.post(f"/api/{kinds[1]}/signup", json=forms[kinds[1]](email=email.upper()))
    assert (second.status_code, second.json()["code"]) == (409, "email_taken")
    assert email.lower() not in second.text.lower()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "ADMIN"),
        ("status", "ACTIVE"),
        ("id", "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071"),
        ("fullname", ""),
        ("fullname", "   "),
        ("fullname", "Ada\nBcc: eve@example.com"),
        ("fullname", "Ada\u0000"),
        ("fullname", "\u00a0"),
        ("fullname", "\u200b"),
        ("fullname", "\u2800"),
        ("fullname", "\u3164\ufeff"),
        ("fullname", "Ada \u202eevil"),
        ("fullname", "Ada \u2067evil"),
        ("fullname", "Ada\u200f"),
        ("fullname", "Ada\u0085Brandt"),
        ("speciality", "\u200b"),
        ("email", "a..b@example.com"),
        ("email", ".ada@example.com"),
        ("email", "ada@example.com."),
        ("email", "ada@localhost"),
        ("email", "ada\u200b@example.com"),
        ("password", "e\u0301" * 4),
        ("fullname", {"$gt": ""}),
        ("fullname", "a" * 201),
        ("email", "ada"),
        ("email", "ada@"),
        ("email", "@example.com"),
        ("email", "ada@example@com"),
        ("email", " ada@example.com"),
        ("email", "ada@example.com "),
        ("email", "ada@example.com\n"),
        ("email", "ada@exam\u0000ple.com"),
        ("email", "ada,eve@example.com"),
        ("email", "Ada <ada@example.com>"),
        ("email", f"{'a' * 243}@example.com"),
        ("password", "1234567"),
        ("password", "p" * 1025),
        ("password", "12345678\u0000"),
        ("password", None),
        ("phone", "0301234"),
        ("phone", "+49 30 123456"),
        ("phone", "+49301234567890123"),
        ("locale", "english"),
        ("locale", "en_US"),
        ("locale", "en-"),
        ("timeZone", "Factory"),
        ("timeZone", "Mars/Olympus"),
        ("timeZone", "../../etc/passwd"),
        ("timeZone", ""),
        ("experience", -1),
        ("experience", 81),
        ("experience", "12"),
        ("experience", 1.5),
        ("consultationFee", 99.5),
        ("consultationFee", "-1.00"),
        ("consultationFee", "1.999"),
        ("consultationFee", "1e3"),
        ("consultationFee", "NaN"),
        ("consultationFee", "100000000"),
        ("consultationFee", "01"),
        ("consultationFee", "9\n"),
    ],
)
async def test_an_invalid_field_is_refused_and_named(client: httpx.AsyncClient, field: str, value: Any) -> None:
    answer = await client.post("/api/doctors/signup", json=doctor_form(**{field: value}))
    assert answer.status_code == 400
    assert [error["path"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("field", sorted(doctor_form()))
async def test_a_missing_required_field_is_named(client: httpx.AsyncClient, field: str) -> None:
    form = doctor_form()
    del form[field]
    answer = await client.post("/api/doctors/signup", json=form)
    assert answer.status_code == 400
    assert answer.json()["errors"] == [{"path": field, "message": "Required"}]


async def test_a_patient_has_no_speciality(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/patients/signup", json=patient_form(speciality="Cardiology"))
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "email", ["{}@example.com", "o'hara+{}@sub.example.com", "zoë{}@bücher.example", "用户{}@例子.example"]
)
async def test_addresses_in_any_script_are_accepted_unchanged(client: httpx.AsyncClient, email: str) -> None:
    email = email.format(new_email().partition("@")[0])
    answer = await client.post("/api/patients/signup", json=patient_form(email=email))
    assert (answer.status_code, answer.json().get("email")) == (201, email)


@pytest.mark.parametrize(("given", "shown"), [("0", "0.00"), ("99.5", "99.50"), ("99999999.99", "99999999.99")])
async def test_a_fee_is_a_decimal_with_two_places(client: httpx.AsyncClient, given: str, shown: str) -> None:
    doctor = (await client.post("/api/doctors/signup", json=doctor_form(consultationFee=given))).json()
    assert doctor["consultationFee"] == shown


async def test_the_password_is_stored_as_an_argon2id_hash_only(client: httpx.AsyncClient, owner_url: str) -> None:
    form = patient_form()
    await client.post("/api/patients/signup", json=form)
    owner = await asyncpg.connect(owner_url)
    try:
        (row,) = await owner.fetch(
            "SELECT users::text AS everything, password_hash FROM users WHERE email = $1", form["email"]
        )
    finally:
        await owner.close()
    assert row["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert form["password"] not in row["everything"]


async def test_concurrent_sign_ups_with_one_address_make_one_account(client: httpx.AsyncClient) -> None:
    form = patient_form()
    answers = await asyncio.gather(*(client.post("/api/patients/signup", json=form) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
