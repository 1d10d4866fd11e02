"""What may be tried how often, by account, by device and by address; and who still gets in."""

import asyncio
from collections.abc import AsyncIterator
from time import time
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest

from services.auth.app import create
from services.auth.sessions import devices
from services.auth.settings import Settings
from services.auth.throttles.repository import ThrottleRepository
from services.auth.users.passwords import Passwords
from services.contracts.enums import MailKind
from services.kit.http.origin import Origin
from services.kit.metrics import create_registry
from services.kit.postgres.database import Database
from services.standalone.databases import DatabaseUrls
from tests.auth.mailbox import Mailbox
from tests.auth.people import People, patient_form
from tests.support.canary import PASSWORD, new_email
from tests.support.running import client_of

HERE = "203.0.113.7"


@pytest.fixture
async def behind_a_proxy(settings: Settings, owner: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A replica that counts by address, which one proxy of ours tells it."""
    await owner.execute("DELETE FROM throttles WHERE scope LIKE '%address'")
    there = msgspec.structs.replace(settings, address_limits=True, trusted_proxy_hops=1)
    async with client_of(create(there)) as client:
        yield client


async def log_in(
    client: httpx.AsyncClient, email: str, password: str = "wrong", *, seen_at: str | None = None, **more: Any
) -> httpx.Response:
    headers = {"X-Forwarded-For": seen_at} if seen_at else {}
    body = {"email": email, "password": password, **more}
    return await client.post("/api/auth/login", json=body, headers=headers)


async def statuses(client: httpx.AsyncClient, email: str, times: int, **more: Any) -> list[int]:
    return [(await log_in(client, email, **more)).status_code for _ in range(times)]


async def end_pauses(owner: Any) -> None:
    await owner.execute("UPDATE throttles SET blocked_until = now() WHERE blocked_until > now()")


async def make_pauses_last(owner: Any) -> None:
    await owner.execute("UPDATE throttles SET blocked_until = now() + interval '1 minute' WHERE blocked_until > now()")


def assert_paused(answer: httpx.Response, at_most: int) -> None:
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests"), answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= at_most


async def test_guessing_is_paused_even_for_the_right_password_and_goes_on_after_that(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    assert await statuses(client, patient.email, 5) == [401] * 5
    await make_pauses_last(owner)
    for password in ("wrong", PASSWORD):
        assert_paused(await log_in(client, patient.email.upper(), password), 60)
    await end_pauses(owner)
    assert (await log_in(client, patient.email, PASSWORD)).status_code == 200
    assert await statuses(client, patient.email, 5) == [401] * 5


async def test_a_pause_lasts_as_long_as_it_says(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    await statuses(client, patient.email, 5)
    async with asyncio.timeout(10):
        while (answer := await log_in(client, patient.email, PASSWORD)).status_code == 429:
            await asyncio.sleep(int(answer.headers["retry-after"]))
    assert answer.status_code == 200


async def test_pauses_double_up_to_five_minutes_and_no_attempt_makes_one_longer(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    pauses = []
    await statuses(client, patient.email, 5)
    for _ in range(10):
        await end_pauses(owner)
        assert (await log_in(client, patient.email)).status_code == 401
        lasting = "SELECT max(blocked_until) - now() FROM throttles WHERE scope = 'login'"
        before = await owner.fetchval("SELECT max(blocked_until) FROM throttles WHERE scope = 'login'")
        pauses.append((await owner.fetchval(lasting)).total_seconds())
        await log_in(client, patient.email)
        if pauses[-1] > 3:
            assert await owner.fetchval("SELECT max(blocked_until) FROM throttles WHERE scope = 'login'") == before
    expected = [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert all(0 < limit - pause < 1.5 for limit, pause in zip(expected, pauses, strict=True)), pauses


async def test_whether_there_is_an_account_shows_in_no_pause(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    bodies = []
    for email in ((await people.patient()).email, new_email()):
        assert await statuses(client, email, 5) == [401] * 5
        await make_pauses_last(owner)
        answer = await log_in(client, email)
        assert_paused(answer, 60)
        bodies.append({**answer.json(), "requestId": ""})
    assert bodies[0] == bodies[1]


async def test_failures_are_forgotten_after_an_hour_of_rest(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    await statuses(client, patient.email, 5)
    await owner.execute("UPDATE throttles SET blocked_until = now() - interval '61 minutes' WHERE scope = 'login'")
    assert await statuses(client, patient.email, 5) == [401] * 5


async def test_of_many_guesses_at_once_on_two_replicas_five_are_answered(
    client: httpx.AsyncClient, settings: Settings, people: People
) -> None:
    patient = await people.patient()
    async with client_of(create(settings)) as other:
        answers = await asyncio.gather(*(log_in(one, patient.email) for one in [client, other] * 8))
    answered = [answer.status_code for answer in answers if answer.status_code != 503]
    assert set(answered) == {401, 429}
    # One more for each pause, of 1 s and 2 s, that ended while others were still being hashed.
    assert 5 <= answered.count(401) <= 7


async def test_a_right_guess_among_others_at_once_is_refused_like_them(
    client: httpx.AsyncClient, people: People, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = await people.patient()
    verify = Passwords.verify
    hashed = []

    async def verify_last(self: Passwords, known: str | None, password: str) -> bool:
        """The five others are answered while this one is still being hashed."""
        hashed.append(password)
        if password == PASSWORD:
            await statuses(client, patient.email, 5)
            await make_pauses_last(owner)
        return await verify(self, known, password)

    monkeypatch.setattr(Passwords, "verify", verify_last)
    assert_paused(await log_in(client, patient.email, PASSWORD), 60)
    assert hashed == [PASSWORD, *["wrong"] * 5]
    assert_paused(await log_in(client, patient.email, PASSWORD), 60)
    assert len(hashed) == 6  # what is refused anyway costs no hash


async def test_a_known_device_gets_in_while_others_are_paused(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient, other = await people.patient(), await people.patient()
    known = (await log_in(client, patient.email, PASSWORD)).json()["deviceToken"]
    others = (await log_in(client, other.email, PASSWORD)).json()["deviceToken"]
    await statuses(client, patient.email, 5)
    await make_pauses_last(owner)
    for made_up in (others, "AAAA", known[:-4] + "AAAA"):
        assert_paused(await log_in(client, patient.email, PASSWORD, deviceToken=made_up), 60)
    answer = await log_in(client, patient.email, PASSWORD, deviceToken=known)
    assert (answer.status_code, answer.json()["deviceToken"]) == (200, known)
    assert_paused(await log_in(client, patient.email, PASSWORD), 60)


@pytest.mark.parametrize("letter", ["İ", "ı", "I"])
async def test_no_spelling_of_an_address_has_a_pause_of_its_own_and_the_account_behind_it(
    client: httpx.AsyncClient, people: People, owner: Any, letter: str
) -> None:
    """Python and PostgreSQL differ on the lower case of some letters: each i of an address doubled the guesses."""
    email = f"iii{new_email()}"
    patient = await people.patient(email=email)
    spelling = email.replace("i", letter, 3)
    await statuses(client, spelling, 5)
    await make_pauses_last(owner)
    right = await log_in(client, spelling, PASSWORD)
    assert_paused(right, 60)
    await end_pauses(owner)
    found = (await log_in(client, spelling, PASSWORD)).status_code == 200
    assert found == (letter == "I")
    reset = "SELECT count(*) FROM mails WHERE user_id = $1 AND kind = 'PASSWORD_RESET'"
    assert (await client.post("/api/auth/password-reset", json={"email": spelling})).status_code == 202
    assert await owner.fetchval(reset, patient.id) == found


async def test_one_address_in_two_unicode_forms_is_one_account(client: httpx.AsyncClient, people: People) -> None:
    name = new_email()
    composed, decomposed = f"\u00e9{name}", f"e\u0301{name}"
    await people.patient(email=composed)
    assert (await log_in(client, decomposed, PASSWORD)).status_code == 200
    again = await client.post("/api/patients/signup", json=patient_form(email=decomposed.upper()))
    assert (again.status_code, again.json()["code"]) == (409, "email_taken")


async def test_a_reset_by_mail_opens_the_way_in_while_somebody_keeps_guessing(
    client: httpx.AsyncClient, internal: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    await client.post("/api/auth/password-reset", json={"email": patient.email})
    token = (await Mailbox(owner, internal).newest(patient.email, MailKind.PASSWORD_RESET)).token
    body = {"token": token, "password": "another horse battery"}
    done = await client.post("/api/auth/password-reset/confirm", json=body)
    assert done.status_code == 200
    await statuses(client, patient.email, 6)
    await make_pauses_last(owner)
    assert_paused(await log_in(client, patient.email, body["password"]), 60)
    let_in = await log_in(client, patient.email, body["password"], deviceToken=done.json()["deviceToken"])
    assert let_in.status_code == 200


@pytest.mark.parametrize("by", ["change of the password", "age"])
async def test_a_device_is_forgotten(
    client: httpx.AsyncClient, people: People, owner: Any, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient, password = await people.patient(), PASSWORD
    known = (await log_in(client, patient.email, PASSWORD)).json()["deviceToken"]
    if by == "age":
        monkeypatch.setattr(devices, "time", lambda: time() + 181 * 86_400)
    else:
        password = "another horse battery"
        changed = await client.post(
            "/api/auth/password", json={"currentPassword": PASSWORD, "password": password}, headers=patient.headers
        )
        assert changed.status_code == 204
    await statuses(client, patient.email, 5)
    await make_pauses_last(owner)
    assert_paused(await log_in(client, patient.email, password, deviceToken=known), 60)
    await end_pauses(owner)
    assert (await log_in(client, patient.email, password, deviceToken=known)).json()["deviceToken"] != known


async def test_refused_logins_are_in_the_trail_by_their_order_of_magnitude(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    await statuses(client, patient.email, 5)
    await make_pauses_last(owner)
    assert await statuses(client, patient.email, 11) == [429] * 11
    query = "SELECT code FROM audit_log WHERE action = 'login.throttled' AND target_id = $1"
    assert [row["code"] for row in await owner.fetch(query, patient.id)] == ["too_many_requests"] * 2


async def test_a_stolen_device_guesses_no_faster(client: httpx.AsyncClient, people: People, owner: Any) -> None:
    patient = await people.patient()
    known = (await log_in(client, patient.email, PASSWORD)).json()["deviceToken"]
    assert await statuses(client, patient.email, 5, deviceToken=known) == [401] * 5
    await make_pauses_last(owner)
    assert_paused(await log_in(client, patient.email, PASSWORD, deviceToken=known), 60)
    assert (await log_in(client, patient.email, PASSWORD)).status_code == 200


async def test_an_address_that_tries_many_accounts_is_paused(
    behind_a_proxy: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    for _ in range(20):
        assert (await log_in(behind_a_proxy, new_email(), seen_at=HERE)).status_code == 401
    await make_pauses_last(owner)
    for forged in (HERE, f"198.51.100.1, {HERE}", f"{uuid4()},{HERE}", f"10.0.0.1, ::1,  {HERE} "):
        assert_paused(await log_in(behind_a_proxy, patient.email, PASSWORD, seen_at=forged), 60)
    assert (await log_in(behind_a_proxy, patient.email, PASSWORD, seen_at="198.51.100.1")).status_code == 200


async def test_an_account_of_ones_own_clears_no_address(
    behind_a_proxy: httpx.AsyncClient, people: People, owner: Any
) -> None:
    own = await people.patient()
    await log_in(behind_a_proxy, new_email(), seen_at=HERE)
    assert (await log_in(behind_a_proxy, own.email, PASSWORD, seen_at=HERE)).status_code == 200
    await log_in(behind_a_proxy, new_email(), seen_at=HERE)
    assert await owner.fetchval("SELECT count FROM throttles WHERE scope = 'login by address'") == 2


async def test_a_known_device_is_not_paused_with_its_address(
    behind_a_proxy: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    known = (await log_in(behind_a_proxy, patient.email, PASSWORD, seen_at=HERE)).json()["deviceToken"]
    await log_in(behind_a_proxy, new_email(), seen_at=HERE)
    await owner.execute("UPDATE throttles SET blocked_until = now() + interval '1 minute' WHERE scope LIKE '%address'")
    assert_paused(await log_in(behind_a_proxy, patient.email, PASSWORD, seen_at=HERE), 60)
    answer = await log_in(behind_a_proxy, patient.email, PASSWORD, seen_at=HERE, deviceToken=known)
    assert answer.status_code == 200


async def test_an_address_signs_up_so_many_people_in_a_row(behind_a_proxy: httpx.AsyncClient, owner: Any) -> None:
    headers = {"X-Forwarded-For": HERE}
    answer = await behind_a_proxy.post("/api/patients/signup", json=patient_form(), headers=headers)
    assert answer.status_code == 201
    await owner.execute("UPDATE throttles SET count = 29 WHERE scope = 'sign-up by address'")
    answer = await behind_a_proxy.post("/api/patients/signup", json=patient_form(), headers=headers)
    assert answer.status_code == 201
    await make_pauses_last(owner)
    assert_paused(await behind_a_proxy.post("/api/patients/signup", json=patient_form(), headers=headers), 60)


async def test_asking_who_has_an_account_by_signing_up_is_paused(client: httpx.AsyncClient, people: People) -> None:
    form = patient_form(email=(await people.patient()).email)
    answers = [await client.post("/api/patients/signup", json=form) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [409, 409, 409, 409, 429]


async def test_mails_for_a_new_password_are_few(client: httpx.AsyncClient, people: People, owner: Any) -> None:
    for email in ((await people.patient()).email, new_email()):
        body = {"email": email}
        answers = [await client.post("/api/auth/password-reset", json=body) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202] * 3
        await make_pauses_last(owner)
        assert_paused(await client.post("/api/auth/password-reset", json=body), 60)


async def test_a_new_password_by_mail_ends_the_pause(
    client: httpx.AsyncClient, internal: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    await statuses(client, patient.email, 5)
    await make_pauses_last(owner)
    await client.post("/api/auth/password-reset", json={"email": patient.email})
    mail = await Mailbox(owner, internal).newest(patient.email, MailKind.PASSWORD_RESET)
    body = {"token": mail.token, "password": "another horse battery"}
    assert (await client.post("/api/auth/password-reset/confirm", json=body)).status_code == 200
    assert (await log_in(client, patient.email, body["password"])).status_code == 200


async def test_a_thief_of_a_session_does_not_guess_the_password(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    body = {"currentPassword": "wrong", "password": "another horse battery"}
    for _ in range(5):
        answer = await client.post("/api/auth/password", json=body, headers=patient.headers)
        assert answer.status_code == 403
    await make_pauses_last(owner)
    assert_paused(await client.post("/api/auth/password", json=body, headers=patient.headers), 60)
    assert (await log_in(client, patient.email, PASSWORD)).status_code == 200


async def test_the_table_has_no_addresses_and_forgets(
    behind_a_proxy: httpx.AsyncClient, owner: Any, auth_database: DatabaseUrls
) -> None:
    email = new_email()
    await log_in(behind_a_proxy, email, seen_at=HERE)
    rows = [bytes(row["subject"]) for row in await owner.fetch("SELECT subject FROM throttles")]
    assert {len(row) for row in rows} == {32}
    assert not any(email.encode() in row or HERE.encode() in row for row in rows)
    await owner.execute("UPDATE throttles SET blocked_until = now() - interval '61 minutes' WHERE scope = 'login'")
    database = Database(auth_database.application, registry=create_registry())
    await database.open()
    await ThrottleRepository(database).delete_old()
    await database.close()
    scopes = {row["scope"] for row in await owner.fetch("SELECT DISTINCT scope FROM throttles")}
    assert "login" not in scopes
    assert "login by address" in scopes


@pytest.mark.parametrize(
    ("hops", "forwarded_for", "address"),
    [
        (0, "", "192.0.2.1"),
        (0, "203.0.113.7", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "203.0.113.7", "203.0.113.7"),
        (1, "198.51.100.1, 203.0.113.7", "203.0.113.7"),
        (2, "198.51.100.1, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        (2, "203.0.113.7", "192.0.2.1"),
        (1, "unknown", "192.0.2.1"),
        (1, ", ,", "192.0.2.1"),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (1, "::ffff:203.0.113.7", "203.0.113.7"),
    ],
)
def test_the_address_is_the_one_that_our_outermost_proxy_saw(hops: int, forwarded_for: str, address: str) -> None:
    assert Origin("192.0.2.1", forwarded_for, hops).address == address
