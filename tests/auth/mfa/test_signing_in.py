"""Logins that take a one-time code besides the password."""

import asyncio
from time import time
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from services.auth.database import Transactions
from services.auth.mfa.repository import FactorRepository
from services.auth.settings import Settings
from tests.auth.mfa.authenticator import Authenticator, confirm, disable, enable_mfa, enrol, log_in
from tests.auth.people import People
from tests.auth.requests import (
    assert_refused,
)


async def test_a_login_takes_a_code_once_codes_are_confirmed(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    enrolled = await enrol(client, patient)
    assert enrolled.status_code == 201
    assert (await log_in(client, patient.email)).status_code == 200
    app = Authenticator(enrolled.json()["secret"])
    assert_refused(await confirm(client, patient, app.wrong()), 403, "invalid_otp")
    assert (await log_in(client, patient.email)).status_code == 200
    assert (await confirm(client, patient, app.code())).status_code == 200
    assert_refused(await log_in(client, patient.email), 401, "mfa_required")
    assert_refused(await log_in(client, patient.email, app.wrong()), 401, "invalid_otp")
    code = app.code()
    assert_refused(await log_in(client, patient.email, code, password="wrong"), 401, "invalid_credentials")
    assert (await log_in(client, patient.email, code)).status_code == 200


async def test_blanks_and_hyphens_of_a_code_do_not_count(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    app = Authenticator((await enrol(client, patient)).json()["secret"])
    code = app.code()
    confirmed = await confirm(client, patient, f"{code[:3]} {code[3:]}")
    assert confirmed.status_code == 200
    code = app.code()
    assert (await log_in(client, patient.email, f" {code[:3]}\u00a0{code[3:]} ")).status_code == 200
    first, second = confirmed.json()["recoveryCodes"][:2]
    assert (await log_in(client, patient.email, first.replace("-", " ").upper())).status_code == 200
    assert (await disable(client, patient, second.replace("-", " - "))).status_code == 204


async def test_a_refresh_takes_no_code(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    await enable_mfa(client, patient)
    answer = await client.post("/api/auth/refresh", json={"refreshToken": patient.refresh_token})
    assert answer.status_code == 200


@pytest.mark.parametrize("again", ["confirmation", "login", "concurrent logins"])
async def test_a_code_works_once(client: httpx.AsyncClient, people: People, again: str) -> None:
    patient = await people.patient()
    app = Authenticator((await enrol(client, patient)).json()["secret"])
    first = app.code()
    await confirm(client, patient, first)
    if again == "confirmation":
        assert_refused(await log_in(client, patient.email, first), 401, "invalid_otp")
        return
    second = app.code()
    if again == "login":
        assert (await log_in(client, patient.email, second)).status_code == 200
        assert_refused(await log_in(client, patient.email, second), 401, "invalid_otp")
        assert_refused(await log_in(client, patient.email, first), 401, "invalid_otp")
        return
    answers = await asyncio.gather(*(log_in(client, patient.email, second) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401]


async def test_a_code_works_once_in_two_concurrent_transactions(
    client: httpx.AsyncClient, people: People, settings: Settings
) -> None:
    patient = await people.patient()
    await enable_mfa(client, patient)
    transactions, step = Transactions(settings.auth_database_url), int(time()) // 30 + 9

    async def spend() -> bool:
        async with transactions.begin() as transaction:
            factors = FactorRepository(transaction)
            factor = await factors.find_by_user(UUID(patient.id))
            assert factor is not None
            spent = await factors.spend_step(factor, step)
            await asyncio.sleep(0.2)  # until the other transaction has read the factor
            return spent

    assert sorted(await asyncio.gather(spend(), spend())) == [False, True]
    await transactions.close()


async def test_a_recovery_code_signs_in_once(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    _, recovery = await enable_mfa(client, patient)
    assert len(set(recovery)) == 10
    typed = recovery[0].upper().replace("-", "")
    answers = await asyncio.gather(*(log_in(client, patient.email, typed) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401]
    assert (await log_in(client, patient.email, recovery[1])).status_code == 200


async def test_a_recovery_code_belongs_to_one_account(client: httpx.AsyncClient, people: People) -> None:
    patient, other = await people.patient(), await people.patient()
    _, recovery = await enable_mfa(client, patient)
    await enable_mfa(client, other)
    assert_refused(await log_in(client, other.email, recovery[0]), 401, "invalid_otp")


async def test_guessing_codes_is_throttled(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    app, recovery = await enable_mfa(client, patient)
    for _ in range(5):
        assert_refused(await log_in(client, patient.email, app.wrong()), 401, "invalid_otp")
    await owner.execute(
        "UPDATE throttles SET blocked_until = now() + interval '1 minute' WHERE scope = 'one-time code'"
    )
    for otp in (app.code(), recovery[0], app.wrong()):
        answer = await log_in(client, patient.email, otp)
        assert_refused(answer, 429, "too_many_requests")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert_refused(await disable(client, patient, recovery[0]), 429, "too_many_requests")
    await owner.execute("UPDATE throttles SET blocked_until = now() WHERE scope = 'one-time code'")
    assert (await log_in(client, patient.email, recovery[0])).status_code == 200


@pytest.mark.parametrize("otp", ["12345", "12_456", "1" * 41, "12345\u0000", "１２３４５６", 123456, {"$gt": ""}])
async def test_a_malformed_code_is_400(client: httpx.AsyncClient, people: People, otp: Any) -> None:
    patient = await people.patient()
    assert_refused(await log_in(client, patient.email, otp), 400, "invalid_request")
