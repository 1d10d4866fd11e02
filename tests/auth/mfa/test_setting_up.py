"""One-time codes that are set up, confirmed and disabled."""

from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import pytest
from msgspec.structs import replace

from services.auth.app import create
from services.auth.mfa.commands import set_up
from services.auth.settings import Settings
from services.contracts.enums import MailKind
from services.kit.errors import NotFound
from services.kit.subkeys import Subkeys
from tests.auth.mailbox import Mailbox
from tests.auth.mfa.authenticator import Authenticator, confirm, disable, enable_mfa, enrol, log_in
from tests.auth.people import People
from tests.auth.requests import (
    assert_refused,
)
from tests.support.running import client_of


async def test_the_uri_has_everything_that_an_authenticator_app_needs(
    client: httpx.AsyncClient, people: People
) -> None:
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


async def test_an_unconfirmed_factor_can_be_replaced_or_removed(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    assert_refused(await confirm(client, patient, "123456"), 409, "mfa_not_enrolled")
    old, new = [Authenticator((await enrol(client, patient)).json()["secret"]) for _ in range(2)]
    assert_refused(await confirm(client, patient, old.code()), 403, "invalid_otp")
    assert (await disable(client, patient)).status_code == 204
    assert_refused(await confirm(client, patient, new.code()), 409, "mfa_not_enrolled")


async def test_enabled_codes_cannot_be_set_up_again(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    app, _ = await enable_mfa(client, patient)
    assert_refused(await enrol(client, patient), 409, "mfa_enabled")
    assert_refused(await confirm(client, patient, app.code()), 409, "mfa_enabled")


async def test_a_stolen_session_cannot_set_up_codes(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    assert_refused(await enrol(client, patient, "wrong"), 403, "wrong_password")
    await client.post("/api/auth/logout", headers=patient.headers)
    assert_refused(await enrol(client, patient), 401, "session_revoked")


async def test_disabling_codes_takes_a_code(client: httpx.AsyncClient, people: People) -> None:
    patient = await people.patient()
    app, recovery = await enable_mfa(client, patient)
    for otp in (None, app.wrong()):
        assert_refused(await disable(client, patient, otp), 403, "invalid_otp")
    assert (await disable(client, patient, recovery[0])).status_code == 204
    assert (await log_in(client, patient.email)).status_code == 200
    assert_refused(await disable(client, patient, recovery[1]), 409, "mfa_not_enrolled")


async def test_an_operator_sets_up_codes_where_admins_must_have_them(
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
        app = Authenticator(parse_qs(urlsplit(factor.uri).query)["secret"][0])
        assert_refused(await log_in(strict, admin.email), 401, "mfa_required")
        assert (await log_in(strict, admin.email, app.code())).status_code == 200
        assert (await log_in(strict, admin.email, factor.recovery_codes[0])).status_code == 200
        assert_refused(await disable(strict, admin, app.code()), 403, "forbidden")
    with pytest.raises(NotFound):
        await set_up(settings.auth_database_url, subkeys, patient.email, "booking-platform")


@pytest.mark.parametrize("verified", [False, True])
async def test_a_reset_of_a_never_verified_address_removes_its_codes(
    client: httpx.AsyncClient, internal: httpx.AsyncClient, people: People, owner: asyncpg.Connection, verified: bool
) -> None:
    squatter = await people.patient()
    await enable_mfa(client, squatter)
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
