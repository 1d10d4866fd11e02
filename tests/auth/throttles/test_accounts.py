"""Pauses after failed logins to one account."""

import asyncio
from datetime import timedelta

import asyncpg
import httpx
import pytest

from services.auth.app import create
from services.auth.settings import Settings
from services.auth.users.passwords import Match, Passwords
from tests.auth.people import People, patient_form
from tests.auth.throttles.pauses import assert_paused, attempt, end_pauses, make_pauses_last, statuses
from tests.support.canary import PASSWORD, new_email
from tests.support.running import client_of
from tests.support.waiting import without_hang


async def test_a_pause_refuses_the_right_password_too_and_then_ends(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    assert await statuses(client, patient.email, 5) == [401] * 5
    await make_pauses_last(owner)
    for password in ("wrong", PASSWORD):
        assert_paused(await attempt(client, patient.email.upper(), password), 60)
    await end_pauses(owner)
    assert (await attempt(client, patient.email, PASSWORD)).status_code == 200
    assert await statuses(client, patient.email, 5) == [401] * 5


async def test_a_pause_lasts_as_long_as_retry_after_says(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    await statuses(client, patient.email, 5)
    async with without_hang():
        while (answer := await attempt(client, patient.email, PASSWORD)).status_code == 429:
            await asyncio.sleep(int(answer.headers["retry-after"]))
    assert answer.status_code == 200


async def test_pauses_double_up_to_five_minutes_and_no_attempt_makes_one_longer(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    longest = "SELECT max(blocked_until) FROM throttles WHERE scope = 'login'"
    await statuses(client, patient.email, 5)
    for seconds in (2, 4, 8, 16, 32, 64, 128, 256, 300, 300):
        await end_pauses(owner)
        before = await owner.fetchval("SELECT clock_timestamp()")
        assert (await attempt(client, patient.email)).status_code == 401
        after = await owner.fetchval("SELECT clock_timestamp()")
        ends_at = await owner.fetchval(longest)
        assert before <= ends_at - timedelta(seconds=seconds) <= after
        if seconds > 60:  # the pause cannot end before the next attempt
            assert_paused(await attempt(client, patient.email), seconds)
            assert await owner.fetchval(longest) == ends_at


async def test_pauses_do_not_reveal_whether_there_is_an_account(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    bodies = []
    for email in ((await people.patient()).email, new_email()):
        assert await statuses(client, email, 5) == [401] * 5
        await make_pauses_last(owner)
        answer = await attempt(client, email)
        assert_paused(answer, 60)
        bodies.append({**answer.json(), "requestId": ""})
    assert bodies[0] == bodies[1]


async def test_failures_are_forgotten_after_an_hour(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    await statuses(client, patient.email, 5)
    await owner.execute("UPDATE throttles SET blocked_until = now() - interval '61 minutes' WHERE scope = 'login'")
    assert await statuses(client, patient.email, 5) == [401] * 5


async def test_concurrent_guesses_on_two_replicas_share_one_limit(
    client: httpx.AsyncClient, settings: Settings, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient, all_arrived = await people.patient(), asyncio.Barrier(16)

    async def verify_together(*_: object) -> bool:
        await all_arrived.wait()
        return False

    monkeypatch.setattr(Passwords, "verify", verify_together)
    async with client_of(create(settings)) as other:
        answers = await asyncio.gather(*(attempt(one, patient.email) for one in [client, other] * 8))
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 11


async def test_a_right_guess_is_refused_if_a_pause_begins_while_it_is_hashed(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = await people.patient()
    verify = Passwords.verify
    hashed = []

    async def verify_last(self: Passwords, known: str | None, password: str) -> Match:
        """Answer five other guesses while this one is still being hashed."""
        hashed.append(password)
        if password == PASSWORD:
            await statuses(client, patient.email, 5)
            await make_pauses_last(owner)
        return await verify(self, known, password)

    monkeypatch.setattr(Passwords, "verify", verify_last)
    assert_paused(await attempt(client, patient.email, PASSWORD), 60)
    assert hashed == [PASSWORD, *["wrong"] * 5]
    assert_paused(await attempt(client, patient.email, PASSWORD), 60)
    assert len(hashed) == 6  # a refused attempt costs no hash


@pytest.mark.parametrize("letter", ["İ", "ı", "I"])
async def test_no_spelling_of_an_address_gets_extra_guesses(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection, letter: str
) -> None:
    """Python and PostgreSQL differ on some letters' lower case, so that each i of an address doubled the guesses."""
    email = f"iii{new_email()}"
    patient = await people.patient(email=email)
    spelling = email.replace("i", letter, 3)
    await statuses(client, spelling, 5)
    await make_pauses_last(owner)
    right = await attempt(client, spelling, PASSWORD)
    assert_paused(right, 60)
    await end_pauses(owner)
    found = (await attempt(client, spelling, PASSWORD)).status_code == 200
    assert found == (letter == "I")
    reset = "SELECT count(*) FROM mails WHERE user_id = $1 AND kind = 'PASSWORD_RESET'"
    assert (await client.post("/api/auth/password-reset", json={"email": spelling})).status_code == 202
    assert await owner.fetchval(reset, patient.id) == found


async def test_one_address_in_two_unicode_forms_is_one_account(client: httpx.AsyncClient, people: People) -> None:
    name = new_email()
    composed, decomposed = f"\u00e9{name}", f"e\u0301{name}"
    await people.patient(email=composed)
    assert (await attempt(client, decomposed, PASSWORD)).status_code == 200
    again = await client.post("/api/patients/signup", json=patient_form(email=decomposed.upper()))
    assert (again.status_code, again.json()["code"]) == (409, "email_taken")


async def test_throttled_logins_are_recorded_by_order_of_magnitude(
    client: httpx.AsyncClient, people: People, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    await statuses(client, patient.email, 5)
    await make_pauses_last(owner)
    assert await statuses(client, patient.email, 11) == [429] * 11
    query = "SELECT code FROM audit_log WHERE action = 'login.throttled' AND target_id = $1"
    assert [row["code"] for row in await owner.fetch(query, patient.id)] == ["too_many_requests"] * 2
