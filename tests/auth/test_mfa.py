"""One-time codes: a password alone no longer signs in."""

import asyncio
import base64
from time import time
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from services.auth.app import create
from services.auth.credentials.links import LinkTokens
from services.auth.database import Transactions
from services.auth.mfa import codes
from services.auth.mfa.codes import FactorSecrets
from services.auth.mfa.commands import set_up
from services.auth.mfa.repository import FactorRepository
from services.auth.settings import Settings
from services.contracts.enums import MailKind
from services.kit.errors import NotFound
from services.kit.subkeys import Subkeys
from tests.auth.mailbox import Mailbox
from tests.auth.people import People, Person
from tests.support.canary import PASSWORD
from tests.support.running import client_of


class App:
    """An authenticator app. It gives two codes: the present one, and the next, as if its clock were a little fast; both
    stay good for the time that a test takes.
    """

    def __init__(self, secret: str) -> None:
        self._totp = codes._totp(base64.b32decode(secret))
        present = int(time()) // 30
        self._steps = iter((present, present + 1))

    def code(self) -> str:
        return self._totp.generate(next(self._steps) * 30).decode()

    def wrong(self) -> str:
        right = {self._totp.generate(int(time()) + offset).decode() for offset in range(-90, 91, 30)}
        return next(code for number in range(10) if (code := f"{number:06}") not in right)


def assert_refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def log_in(client: httpx.AsyncClient, email: str, otp: str | None = None, **more: Any) -> httpx.Response:
    body = {"email": email, "password": PASSWORD, **({} if otp is None else {"otp": otp}), **more}
    return await client.post("/api/auth/login", json=body)


async def enrol(client: httpx.AsyncClient, person: Person, password: str = PASSWORD) -> httpx.Response:
    return await client.post("/api/auth/mfa", json={"password": password}, headers=person.headers)


async def confirm(client: httpx.AsyncClient, person: Person, otp: str) -> httpx.Response:
    return await client.post("/api/auth/mfa/confirm", json={"otp": otp}, headers=person.headers)


async def disable(client: httpx.AsyncClient, person: Person, otp: str | None = None) -> httpx.Response:
    headers = person.headers | ({"X-OTP": otp} if otp else {})
    return await client.delete("/api/auth/mfa", headers=headers)


async def turned_on(client: httpx.AsyncClient, person: Person) -> tuple[App, list[str]]:
    """The person's app, and their recovery codes."""
    app = App((await enrol(client, person)).json()["secret"])
    answer = await confirm(client, person, app.code())
    assert answer.status_code == 200, answer.text
    return app, answer.json()["recoveryCodes"]


async def test_once_confirmed_a_login_wants_a_code(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    enrolled = await enrol(client, patient)
    assert enrolled.status_code == 201
    assert (await log_in(client, patient.email)).status_code == 200
    app = App(enrolled.json()["secret"])
    assert_refused(await confirm(client, patient, app.wrong()), 403, "invalid_otp")
    assert (await log_in(client, patient.email)).status_code == 200
    assert (await confirm(client, patient, app.code())).status_code == 200
    assert_refused(await log_in(client, patient.email), 401, "mfa_required")
    assert_refused(await log_in(client, patient.email, app.wrong()), 401, "invalid_otp")
    code = app.code()
    assert_refused(await log_in(client, patient.email, code, password="wrong"), 401, "invalid_credentials")
    assert (await log_in(client, patient.email, code)).status_code == 200


async def test_a_session_goes_on_without_codes(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    await turned_on(client, patient)
    answer = await client.post("/api/auth/refresh", json={"refreshToken": patient.refresh_token})
    assert answer.status_code == 200


async def test_the_app_is_told_all_by_the_uri(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    body = (await enrol(client, patient)).json()
    uri = urlsplit(body["uri"])
    assert (uri.scheme, uri.netloc) == ("otpauth", "totp")
    query = {name: values[0] for name, values in parse_qs(uri.query).items()}
    assert query["secret"] == body["secret"]
    assert (query["issuer"], query["algorithm"], query["digits"], query["period"]) == (
        "booking-platform",
        "SHA1",
        "6",
        "30",
    )


def test_codes_are_those_of_rfc_6238() -> None:
    secret = b"12345678901234567890"
    assert codes.step_of("287082", secret, 59) == 1
    step = 1111111109 // 30
    for now, found in ((step - 2, None), (step - 1, step), (step + 1, step), (step + 2, None)):
        assert codes.step_of("081804", secret, now * 30) == found
    assert codes.step_of("28708", secret, 59) is None


@pytest.mark.parametrize("again", ["confirming", "login", "at once"])
async def test_a_code_is_taken_once(client: httpx.AsyncClient, people: People, again: str) -> None:
    patient = await people.patient()
    app = App((await enrol(client, patient)).json()["secret"])
    first = app.code()
    await confirm(client, patient, first)
    if again == "confirming":
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


async def test_a_code_is_taken_once_by_two_transactions_at_the_same_instant(
    client: httpx.AsyncClient, people: People, settings: Settings
) -> None:
    patient = await people.patient()
    await turned_on(client, patient)
    transactions, step = Transactions(settings.auth_database_url), int(time()) // 30 + 9

    async def spend() -> bool:
        async with transactions.begin() as transaction:
            factors = FactorRepository(transaction)
            factor = await factors.find_by_user(UUID(patient.id))
            assert factor is not None
            spent = await factors.spend_step(factor, step)
            await asyncio.sleep(0.2)  # so that the other one has looked, too
            return spent

    assert sorted(await asyncio.gather(spend(), spend())) == [False, True]
    await transactions.close()


async def test_a_recovery_code_signs_in_once(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    _, recovery = await turned_on(client, patient)
    assert len(set(recovery)) == 10
    typed = recovery[0].upper().replace("-", "")
    answers = await asyncio.gather(*(log_in(client, patient.email, typed) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401]
    assert (await log_in(client, patient.email, recovery[1])).status_code == 200


async def test_a_recovery_code_is_one_persons(client: httpx.AsyncClient, people: People) -> None:
    patient, other = await people.patient(), await people.patient()
    _, recovery = await turned_on(client, patient)
    await turned_on(client, other)
    assert_refused(await log_in(client, other.email, recovery[0]), 401, "invalid_otp")


async def test_guessing_codes_is_paused(client: httpx.AsyncClient, people: People, owner: Any) -> None:
    patient = await people.patient()
    app, recovery = await turned_on(client, patient)
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


async def test_turning_codes_off_takes_a_code(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    app, recovery = await turned_on(client, patient)
    for otp in (None, app.wrong()):
        assert_refused(await disable(client, patient, otp), 403, "invalid_otp")
    assert (await disable(client, patient, recovery[0])).status_code == 204
    assert (await log_in(client, patient.email)).status_code == 200
    assert_refused(await disable(client, patient, recovery[1]), 409, "mfa_not_enrolled")


async def test_what_is_not_confirmed_can_be_dropped_or_begun_anew(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    assert_refused(await confirm(client, patient, "123456"), 409, "mfa_not_enrolled")
    old, new = [App((await enrol(client, patient)).json()["secret"]) for _ in range(2)]
    assert_refused(await confirm(client, patient, old.code()), 403, "invalid_otp")
    assert (await disable(client, patient)).status_code == 204
    assert_refused(await confirm(client, patient, new.code()), 409, "mfa_not_enrolled")


async def test_codes_that_are_on_are_not_set_up_again(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    app, _ = await turned_on(client, patient)
    assert_refused(await enrol(client, patient), 409, "mfa_enabled")
    assert_refused(await confirm(client, patient, app.code()), 409, "mfa_enabled")


async def test_a_thief_of_a_session_sets_up_nothing(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    assert_refused(await enrol(client, patient, "wrong"), 403, "wrong_password")
    await client.post("/api/auth/logout", headers=patient.headers)
    assert_refused(await enrol(client, patient), 401, "session_revoked")


async def test_the_database_has_neither_secret_nor_recovery_codes(
    client: httpx.AsyncClient, people: People, owner: Any
) -> None:
    patient = await people.patient()
    body = (await enrol(client, patient)).json()
    secret = base64.b32decode(body["secret"])
    recovery = (await confirm(client, patient, App(body["secret"]).code())).json()["recoveryCodes"]
    row = await owner.fetchrow("SELECT secret FROM second_factors WHERE user_id = $1", patient.id)
    assert secret not in row["secret"]
    hashes = await owner.fetch(
        "SELECT code_hash FROM recovery_codes JOIN second_factors ON id = factor_id WHERE user_id = $1", patient.id
    )
    assert len(hashes) == 10
    kept = b"".join(row["code_hash"] for row in hashes)
    assert not any(code.replace("-", "").encode() in kept for code in recovery)


def test_a_sealed_secret_opens_for_its_account_and_key_only() -> None:
    user, secrets = uuid4(), FactorSecrets([b"k" * 32], [b"h" * 32])
    sealed = secrets.encrypted(b"secret", user)
    assert secrets.decrypted(sealed, user) == b"secret"
    assert secrets.encrypted(b"secret", user) != sealed
    assert secrets.decrypted(sealed, UUID(int=1)) is None
    assert FactorSecrets([b"x" * 32], [b"h" * 32]).decrypted(sealed, user) is None


async def test_where_admins_have_to_have_codes_an_operator_sets_them_up(
    client: httpx.AsyncClient, people: People, settings: Settings
) -> None:
    admin, patient = await people.new_admin(), await people.patient()
    async with client_of(create(replace(settings, admin_mfa="required"))) as strict:
        assert_refused(await log_in(strict, admin.email), 401, "mfa_setup_required")
        refresh = {"refreshToken": admin.refresh_token}
        assert_refused(await strict.post("/api/auth/refresh", json=refresh), 401, "mfa_setup_required")
        assert (await log_in(strict, patient.email)).status_code == 200
        subkeys = Subkeys(settings.auth_secret_key, None)
        factor = await set_up(settings.auth_database_url, subkeys, admin.email.upper(), "booking-platform")
        app = App(parse_qs(urlsplit(factor.uri).query)["secret"][0])
        assert_refused(await log_in(strict, admin.email), 401, "mfa_required")
        assert (await log_in(strict, admin.email, app.code())).status_code == 200
        assert (await log_in(strict, admin.email, factor.recovery_codes[0])).status_code == 200
        assert_refused(await disable(strict, admin, app.code()), 403, "forbidden")
    with pytest.raises(NotFound):
        await set_up(settings.auth_database_url, subkeys, patient.email, "booking-platform")


async def test_what_was_made_under_the_secret_key_before_is_taken_and_renewed(
    client: httpx.AsyncClient, people: People, settings: Settings, owner: asyncpg.Connection
) -> None:
    patient = await people.patient()
    app, recovery = await turned_on(client, patient)
    device = (await log_in(client, patient.email, recovery[0])).json()["deviceToken"]
    key = "another-secret-key-of-the-tests-9876543210"
    changed = replace(settings, auth_secret_key=key, auth_previous_secret_key=settings.auth_secret_key)
    async with client_of(create(changed)) as after:
        answer = await log_in(after, patient.email, app.code(), deviceToken=device)
        assert answer.json()["deviceToken"] == device
        assert (await log_in(after, patient.email, recovery[1])).status_code == 200
    sealed = await owner.fetchval("SELECT secret FROM second_factors WHERE user_id = $1", patient.id)
    assert FactorSecrets.of(Subkeys(key, None)).decrypted(sealed, UUID(patient.id)) is not None
    before, both = Subkeys(settings.auth_secret_key, None), Subkeys(key, settings.auth_secret_key)
    link = LinkTokens(before.of("mailed links")).token_of(UUID(patient.id))
    assert LinkTokens(both.of("mailed links")).mail_of(link) == UUID(patient.id)
    assert LinkTokens(Subkeys(key, None).of("mailed links")).mail_of(link) is None


@pytest.mark.parametrize("otp", ["12345", "12 456", "1" * 20, "12345\u0000", "１２３４５６", 123456, {"$gt": ""}])
async def test_what_is_no_code_is_400(client: httpx.AsyncClient, people: People, otp: Any) -> None:
    patient = await people.patient()
    assert_refused(await log_in(client, patient.email, otp), 400, "invalid_request")


@pytest.mark.parametrize("verified", [False, True])
async def test_who_proves_an_address_that_was_never_verified_ends_the_codes_of_the_squatter(
    client: httpx.AsyncClient, internal: httpx.AsyncClient, people: People, owner: Any, verified: bool
) -> None:
    squatter = await people.patient()
    await turned_on(client, squatter)
    if verified:
        await owner.execute("UPDATE users SET email_verified_at = now() WHERE id = $1", squatter.id)
    await client.post("/api/auth/password-reset", json={"email": squatter.email})
    token = (await Mailbox(owner, internal).newest(squatter.email, MailKind.PASSWORD_RESET)).token
    password = "another horse battery"
    done = await client.post("/api/auth/password-reset/confirm", json={"token": token, "password": password})
    assert done.status_code == 200
    answer = await log_in(client, squatter.email, password=password)
    if verified:
        assert_refused(answer, 401, "mfa_required")
    else:
        assert answer.status_code == 200
        live = "SELECT count(*) FROM sessions WHERE user_id = $1 AND revoked_at IS NULL"
        assert await owner.fetchval(live, squatter.id) == 1
